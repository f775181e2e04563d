"""What a run does on SIGTERM, which for example announces that a spot machine is taken away.

It continues for some seconds, so that rows in flight are journalled and complete units are
committed, and then ends. This only saves work: a run that is killed loses just the rows in flight.
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
    """A run that was ended by SIGTERM."""


@contextlib.contextmanager
def graceful_shutdown(seconds: float, progress: RunProgress) -> Iterator[None]:
    """Within the block, SIGTERM ends the run after some seconds.

    Does nothing outside the main thread, where Python cannot handle signals.

    Args:
        seconds: How long the run continues after SIGTERM.
        progress: Shows that the run is about to end.

    Raises:
        ShutdownError: SIGTERM came, and the time is over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(*_: Any) -> None:
        raise ShutdownError(
            "the run was ended by SIGTERM\nWhat is finished is kept; run the same command again."
        )

    def drain(*_: Any) -> None:
        progress.say(f"SIGTERM: finishing rows in flight, {seconds:g} s at most")
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))

    before = signal.signal(signal.SIGTERM, drain), signal.signal(signal.SIGALRM, leave)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGALRM, before[1])
