"""Runs many small requests to a store at once, and yields their results in order."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")
Answer = TypeVar("Answer")

THREADS = 16
AHEAD = 4 * THREADS
"""Most calls that are begun and not taken: an input of 100,000 files is never queued whole."""


def in_order(
    call: Callable[[Item], Answer], items: Iterable[Item], ahead: int = AHEAD
) -> Iterator[Answer]:
    """Yield `call(item)` for each item, in their order; calls run in threads.

    Args:
        call: What is called.
        items: What with; they are taken as they are due.
        ahead: Most calls that are begun and not taken.

    Raises:
        Exception: What the first failing call, in that order, raised.
    """
    waiting: deque[Future[Answer]] = deque()
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="gemma3-batch")
    try:
        for item in items:
            waiting.append(pool.submit(call, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
