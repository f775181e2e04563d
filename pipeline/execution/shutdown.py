"""What a run does on SIGTERM and on Ctrl-C.

The former announces, for example, that a spot machine is taken away. The run's engines take no more
rows; as soon as those that they have are journalled, or after some seconds, the run ends. Before an
engine is ready there is nothing to wait for, and a second signal ends it at once. This only saves
work: a run that is killed loses just the rows in flight.
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


class Interrupted(KeyboardInterrupt):
    """A run that was ended by Ctrl-C.

    Attributes:
        at_once: Whether it was pressed a second time, so that nothing is to be waited for.
    """

    def __init__(self, *, at_once: bool) -> None:
        super().__init__()
        self.at_once = at_once


class Shutdown:
    """Follows what is in flight after a signal.

    Args:
        seconds: How long the run goes on after it, at most.
        progress: Shows that the run is about to end.
    """

    def __init__(self, seconds: float, progress: RunProgress) -> None:
        self._seconds = seconds
        self._progress = progress
        self._deadline: float | None = None
        self._signal = signal.SIGTERM
        self._is_urgent = False
        self._received = 0
        self._drain = Drain()

    def follow(self) -> Drain:
        """Turn to other engines: those of the stages that are about to start, which get this.

        Raises:
            ShutdownError: SIGTERM came.
            Interrupted: Ctrl-C came.
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

    def begin(self, number: int, _: Any = None) -> None:
        """On a signal: ask the engines to finish, and look when they have; the second time leave.

        Args:
            number: The signal's.
        """
        is_first = self._deadline is None
        self._signal = signal.Signals(number)
        self._is_urgent = not is_first
        self._deadline = time.monotonic() + (self._seconds if is_first else 0)
        if is_first and self._seconds and self._drain.engines():
            self._tell()
            self._drain.ask()
            signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS)
        else:
            self._leave()

    def look(self, *_: Any) -> None:
        """On SIGALRM. Raises ShutdownError or Interrupted if nothing is in flight."""
        if self.is_done:
            self._leave()
        signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS)

    def _tell(self) -> None:
        name, again = "SIGTERM", ""
        if self._signal is signal.SIGINT:
            name, again = "Ctrl-C", "; press it again to stop at once"
        text = f"{name}: finishing rows in flight, {self._seconds:g} s at most{again}"
        with contextlib.suppress(RuntimeError):  # it came while something was being written
            self._progress.tell("stopping", text, signal=self._signal.name)

    def _leave(self) -> None:
        self._deadline = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        if self._signal is signal.SIGINT:
            raise Interrupted(at_once=self._is_urgent)
        raise ShutdownError(
            "the run was ended by SIGTERM\nWhat is finished is kept; run the same command again."
        )


@contextlib.contextmanager
def graceful_shutdown(seconds: float, progress: RunProgress) -> Iterator[Shutdown]:
    """Within the block, SIGTERM and Ctrl-C end the run once nothing is in flight.

    Outside the main thread, where Python cannot handle signals, SIGTERM does not.

    Args:
        seconds: How long the run goes on after them, at most.
        progress: Shows that the run is about to end.

    Yields:
        What must be told of finished rows.

    Raises:
        ShutdownError: SIGTERM came, and nothing is in flight or the time is over.
        Interrupted: The same after Ctrl-C.
    """
    shutdown = Shutdown(seconds, progress)
    if threading.current_thread() is not threading.main_thread():
        yield shutdown
        return
    handlers = {
        signal.SIGTERM: shutdown.begin,
        signal.SIGINT: shutdown.begin,
        signal.SIGALRM: shutdown.look,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield shutdown
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        shutdown.forget()
