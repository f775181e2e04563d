"""Ends a process that makes no progress, so that a stall becomes an ordinary process death.

A decoder in an endless loop or a GPU that hangs raises nothing, and the run would wait for ever.
After the process has ended, its rows are tried again in another, and a row that always causes this
is found (see `stages.poison_rows`). Ray Data's own guard (2.60) ends the whole run after half an
hour without a block, even if an engine is only slow; `execution.dataflow` turns it off.
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
"""The file descriptor: `sys.stderr` may be an object that has none."""
TICKS = 10
"""A timeout's ticks: resets closer together than one tick count as one, and an engine is asked for
a sign of life once a tick."""


class Watchdog:
    """Exits the process with status 1 and every thread's traceback if it is not reset in time.

    The timer is a C thread that does not need the GIL, so it also ends a process that hangs inside
    a library. There is one timer per process: starting a second watchdog replaces the first.

    Args:
        seconds: How long the process may run without a reset. It may end up to a tick (a tenth of
            this) earlier, because resets within a tick are skipped.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._started = 0.0

    def __enter__(self) -> Self:
        """Start the timer."""
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the timer."""
        self.stop()

    def reset(self) -> None:
        """Restart the timer, at most once a tick: each restart creates a thread."""
        if time.monotonic() - self._started >= self.seconds / TICKS:
            self._start()

    def stop(self) -> None:
        """Stop the timer."""
        faulthandler.cancel_dump_traceback_later()

    def _start(self) -> None:
        self._started = time.monotonic()
        faulthandler.dump_traceback_later(self.seconds, exit=True, file=STDERR)


async def keep_alive(ping: Callable[[], Awaitable[object]], watchdog: Watchdog) -> None:
    """Reset the watchdog whenever the engine answers; runs until it is cancelled.

    Args:
        ping: Asks the engine for a sign of life. An engine that works on a long step answers late,
            but between two steps it answers: slow is not dead.
        watchdog: Running while this runs.
    """
    with watchdog:
        while True:
            await asyncio.sleep(watchdog.seconds / TICKS)
            with contextlib.suppress(Exception):  # the requests that fail report a dead engine
                await ping()
                watchdog.reset()
