"""Ends a process that does not get on any more, so that a stall is a death like any other.

A decoder that loops for ever, or a GPU that hangs, raises nothing, and the job would stand still
for good. What a process holds then is tried again elsewhere, and a row that does so whenever it is
met is found (see `poison_rows`). Ray Data has a guard of its own (2.60), which ends the whole run
where no block came for half an hour, also where an engine is merely slow; `flow` turns it off.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STDERR = 2
"""As a number: the object may have been replaced by one without a file behind it."""
PULSES = 10
"""How often within its time a process is looked at: by so much less it may have."""


class Watchdog:
    """The process exits with 1, and every thread's traceback, unless it gets on in time.

    The timer runs in a thread of C that needs nothing of Python's, so it also ends a process that
    hangs in a library. A process has one such timer: a second deadline takes the first one's place.

    Args:
        seconds: How long the process may be without a sign of life.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since = 0.0

    def __enter__(self) -> Self:
        """Begin to count."""
        self._count()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop counting."""
        self.stop()

    def reset(self) -> None:
        """Count from the beginning, unless that was a moment ago: each time takes a new thread."""
        if time.monotonic() - self._since >= self.seconds / PULSES:
            self._count()

    def stop(self) -> None:
        """Stop counting."""
        faulthandler.cancel_dump_traceback_later()

    def _count(self) -> None:
        self._since = time.monotonic()
        faulthandler.dump_traceback_later(self.seconds, exit=True, file=STDERR)


async def keep_alive(pulse: Callable[[], Awaitable[object]], deadline: Watchdog) -> None:
    """Put the deadline off whenever `pulse` answers; runs until it is cancelled.

    An answer between two steps is enough: an engine that is slow is alive.
    """
    with deadline:
        while True:
            await asyncio.sleep(deadline.seconds / PULSES)
            with contextlib.suppress(Exception):  # a dead engine is told by the requests it fails
                await pulse()
                deadline.reset()
