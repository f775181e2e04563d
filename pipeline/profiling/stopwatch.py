"""How many seconds a thread spends in each step of a stage.

    read          a unit's rows from the store, decoded into Python values
    unpack, pack  rows out of a block, and into one (pickling)
    prepare       what the task makes of a row, and all of the stage that is no other step
    fetch         an image's bytes
    decode        bytes to pixels
    resize        pixels to what the tower takes
    tokenise      template, ids and places
    parse         answers to results
    journal       rows into the journal
    commit        a unit's part, from the journal and the input
    receipts      the driver's work on what comes back
    commit_wait   the driver waits for commits, and takes nothing meanwhile

A step within another one counts for itself alone. Each thread has its own stopwatch, and a step
costs one or two microseconds.
"""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class _Stopwatch:
    """The state of one thread.

    Attributes:
        seconds: By step, since they were last taken.
        running: Steps that are entered and not left, the innermost last.
        since: When the innermost one was last counted.
        stage: Whose time is counted.
    """

    __slots__ = ("running", "seconds", "since", "stage")

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.running: list[str] = []
        self.since = 0.0
        self.stage = ""

    def count(self) -> None:
        """Count the time until now for the innermost step."""
        now = perf_counter()
        if self.running:
            name = self.running[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self.since
        self.since = now


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.stopwatch = _Stopwatch()


_here = _OfThread()


class _Step:
    """A step, as a context manager."""

    __slots__ = ("_name", "_stopwatch")

    def __init__(self, name: str) -> None:
        self._name = name
        self._stopwatch = _here.stopwatch

    def __enter__(self) -> None:
        self._stopwatch.count()
        self._stopwatch.running.append(self._name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopwatch.count()
        del self._stopwatch.running[-1:]  # none is left where the stretch was taken within it


def step(name: str) -> _Step:
    """Count the block's time for a step. The block must not `yield` or `await`."""
    return _Step(name)


def restart(stage: str, base: str) -> None:
    """Begin a stretch of work of a stage; what is in no other step counts for `base`.

    A stretch that an error ended is forgotten, and so is what was left of another stage.
    """
    stopwatch = _here.stopwatch
    if stopwatch.stage != stage:
        stopwatch.stage = stage
        stopwatch.seconds = {}
    stopwatch.running = [base]
    stopwatch.since = perf_counter()


def take() -> dict[str, float]:
    """Seconds by step since the last call; ends the stretch."""
    stopwatch = _here.stopwatch
    stopwatch.count()
    stopwatch.running = []
    taken, stopwatch.seconds = stopwatch.seconds, {}
    return taken
