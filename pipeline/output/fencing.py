"""Which driver of an OUTPUT is the newest, so that one that was given up removes nothing.

Every driver takes the next number, its epoch. Several drivers may compute and commit at once: no
commit overwrites another one. But only the newest may remove what another one could need (journals,
dropped parts).
"""

from __future__ import annotations

import json
import socket
import uuid
from dataclasses import dataclass

from pipeline.storage.atomic import create
from pipeline.storage.location import INTERNAL, Location


@dataclass(frozen=True)
class Epoch:
    """One driver's number in an OUTPUT.

    Attributes:
        output: OUTPUT.
        number: From 1; that of a later driver is higher.
    """

    output: Location
    number: int

    @property
    def is_newest(self) -> bool:
        """Whether no driver has started since. Raises OSError."""
        return _newest(self.output) <= self.number


def begin_epoch(output: Location) -> Epoch:
    """Become the newest driver. Raises OSError where OUTPUT cannot be written to."""
    who = json.dumps({"host": socket.gethostname(), "token": uuid.uuid4().hex}).encode()
    while True:
        number = _newest(output) + 1
        where = _folder(output) / f"{number:06d}.json"
        if create(where, who) or where.read() == who:  # the reply of a success may have been lost
            return Epoch(output, number)


def _newest(output: Location) -> int:
    names = _folder(output).names()
    return max((int(name.split(".")[0]) for name in names if name.endswith(".json")), default=0)


def _folder(output: Location) -> Location:
    return output / INTERNAL / "drivers"
