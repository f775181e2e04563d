"""What a run does when it is told to end (SIGTERM, as before a spot machine is taken away).

It goes on for a moment, so that what is in flight is journalled and complete units are committed,
and then leaves. Nothing depends on it: a run that is killed outright loses what was in flight only.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.execution.progress import RunProgress


class ShutdownError(RunError):
    """A run that was told to end, and did."""


@contextlib.contextmanager
def graceful_shutdown(seconds: float, progress: RunProgress) -> Iterator[None]:
    """Within, SIGTERM ends the run after so many seconds, with a `ShutdownError`.

    Only where signals can be handled: in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: Any) -> None:
        raise ShutdownError(
            "the run was told to end (SIGTERM)\n"
            "What is finished is kept; run the same command again."
        )

    def drain(*_: Any) -> None:
        progress.say(f"told to end: finishing what is in flight, at most {seconds:g} s")
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))

    before = signal.signal(signal.SIGTERM, drain), signal.signal(signal.SIGALRM, leave)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGALRM, before[1])
