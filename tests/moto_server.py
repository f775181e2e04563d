"""moto's S3, but one write at a time: `python -m tests.moto_server -H HOST -p PORT`.

moto (5.2) looks whether a condition holds and then writes, without a lock. On a busy machine two
writers of a name that must not exist yet would both be the first, which no S3 lets happen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Any

from moto.s3.responses import S3Response
from moto.server import main

LOCK = RLock()
WRITES = ("put_object", "_key_response_post")
"""A write at once, and the end of one in parts."""


def one_at_a_time(write: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(write)
    def locked(*arguments: Any, **named: Any) -> Any:
        with LOCK:
            return write(*arguments, **named)

    return locked


if __name__ == "__main__":
    for name in WRITES:
        setattr(S3Response, name, one_at_a_time(getattr(S3Response, name)))
    main()
