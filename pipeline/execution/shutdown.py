"""What a run does on SIGTERM, which for example announces that a spot machine is taken away.

Its engines take no more rows; as soon as those that they have are journalled, or after some
seconds, the run ends. Before an engine is ready there is nothing to wait for. This only saves work:
a run that is killed loses just the rows in flight.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import RunError
from pipeline.stages.drain import Drain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.execution.progress import RunProgress

LOOK_SECONDS = 0.25
"""Time between two looks at whether all engines are done."""
AGAIN_SECONDS = 5.0
"""After this the run is ended once more: Python ignores an exception that meets a finalizer."""


class ShutdownError(RunError):
    """A run that was ended by SIGTERM."""


class Shutdown:
    """Follows what is in flight after SIGTERM.

    Args:
        seconds: How long the run goes on after SIGTERM, at most.
        progress: Shows that the run is about to end.
    """

    def __init__(self, seconds: float, progress: RunProgress) -> None:
        self._seconds = seconds
        self._progress = progress
        self._deadline: float | None = None
        self._received = 0
        self._drain = Drain()

    def follow(self) -> Drain:
        """Turn to other engines: those of the stages that are about to start, which get this.

        Raises:
            ShutdownError: SIGTERM came.
        """
        self.forget()
        self._drain, self._received = Drain(), 0
        if self._deadline is not None:
            self._leave()
        return self._drain

    def receive(self, rows: int) -> None:
        """Count rows that are back from these engines and in the journal."""
        self._received += rows

    def forget(self) -> None:
        """Follow no engines: they are gone."""
        with contextlib.suppress(Exception):  # Ray may be gone too
            self._drain.forget()

    @property
    def is_done(self) -> bool:
        """Whether nothing is in flight, or the time is over."""
        if self._deadline is None:
            return False
        rows = self._drain.engines()
        given_back = [count for count in rows if count is not None]
        is_idle = len(given_back) == len(rows) and self._received >= sum(given_back)
        return is_idle or time.monotonic() >= self._deadline

    def begin(self, *_: Any) -> None:
        """On SIGTERM: ask the engines to finish, and look when they have; the second time leave."""
        is_first = self._deadline is None
        self._deadline = time.monotonic() + (self._seconds if is_first else 0)
        if is_first and self._seconds and self._drain.engines():
            self._progress.say(f"SIGTERM: finishing rows in flight, {self._seconds:g} s at most")
            self._drain.ask()
            signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS)
        else:
            self._leave()

    def look(self, *_: Any) -> None:
        """On SIGALRM. Raises ShutdownError if nothing is in flight."""
        if self.is_done:
            self._leave()
        signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS)

    def _leave(self) -> None:
        self._deadline = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        raise ShutdownError(
            "the run was ended by SIGTERM\nWhat is finished is kept; run the same command again."
        )


@contextlib.contextmanager
def graceful_shutdown(seconds: float, progress: RunProgress) -> Iterator[Shutdown]:
    """Within the block, SIGTERM ends the run once nothing is in flight.

    Outside the main thread, where Python cannot handle signals, it does not.

    Args:
        seconds: How long the run goes on after SIGTERM, at most.
        progress: Shows that the run is about to end.

    Yields:
        What must be told of finished rows.

    Raises:
        ShutdownError: SIGTERM came, and nothing is in flight or the time is over.
    """
    shutdown = Shutdown(seconds, progress)
    if threading.current_thread() is not threading.main_thread():
        yield shutdown
        return
    before = (
        signal.signal(signal.SIGTERM, shutdown.begin),
        signal.signal(signal.SIGALRM, shutdown.look),
    )
    try:
        yield shutdown
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGALRM, before[1])
        shutdown.forget()
