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

from pipeline.storage.atomic import create, remove
from pipeline.storage.location import INTERNAL, Location
from pipeline.storage.parallel import in_order


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
        return max(_numbers(self.output), default=0) <= self.number

    def give_back(self) -> None:
        """Be no driver after all, before anything was done as one. Raises OSError."""
        remove(_file(self.output, self.number))


def begin_epoch(output: Location, token: str = "") -> Epoch:
    """Become the newest driver.

    Args:
        output: OUTPUT.
        token: What tells this driver from all others.

    Raises:
        OSError: OUTPUT cannot be written to.
    """
    token = token or uuid.uuid4().hex
    who = json.dumps({"host": socket.gethostname(), "token": token}).encode()
    while True:
        number = max(_numbers(output), default=0) + 1
        where = _file(output, number)
        # The reply of a success may have been lost.
        if create(where, who) or _token(where) == token:
            return Epoch(output, number)


def tokens_before(epoch: Epoch) -> set[str]:
    """The tokens of all drivers that started before this one. Raises OSError."""
    earlier = (_file(epoch.output, n) for n in _numbers(epoch.output) if n < epoch.number)
    return {token for token in in_order(_token, earlier) if token is not None}


def drivers_folder(output: Location) -> Location:
    """Where drivers leave their epochs, and their heartbeats beside them."""
    return output / INTERNAL / "drivers"


def _numbers(output: Location) -> list[int]:
    names = drivers_folder(output).names()
    return [int(name.split(".")[0]) for name in names if name.endswith(".json")]


def _file(output: Location, number: int) -> Location:
    return drivers_folder(output) / f"{number:06d}.json"


def _token(file: Location) -> str | None:
    """A driver's token; None if it gave its epoch back."""
    try:
        return str(json.loads(file.read())["token"])
    except FileNotFoundError:
        return None
