"""What is warned of while a run works, each once: rows that begin to fail, a disk that fills up.

Rows fail now and then in every dataset. It is told where many of the last ones failed, and far more
than before: a source or a server may have gone away, and the rows would have to be done again.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from typing import TYPE_CHECKING

from pipeline.contract.record import Outcome, counted
from pipeline.execution.display.wording import percentage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.execution.progress import RunProgress
    from pipeline.storage.location import Location

LAST_ROWS = 500
"""Rows that are looked at together."""
MANY = 0.1
"""Share of them that failed, from which on it is told."""
TIMES_MORE = 3.0
"""... if it is so many times that of all rows before."""
LOOK_S = 30.0
"""Time between two looks at the disks."""
LEAST_FREE = 2 * 2**30
"""Bytes."""
GIB = 2**30


class Alarms:
    """Looks at what a run's rows and its disks come to.

    Args:
        progress: Where it is told.
        output: OUTPUT.
    """

    def __init__(self, progress: RunProgress, output: Location) -> None:
        self._progress = progress
        self._output = output
        self._last = Counter[str]()
        self._before = Counter[str]()
        self._looked = time.monotonic() - LOOK_S

    def note(self, outcomes: Mapping[str, int]) -> None:
        """Count rows that are finished, by outcome; and look at the disks from time to time."""
        self._last.update(outcomes)
        if self._last.total() >= LAST_ROWS:
            self._judge()
            self._before.update(self._last)
            self._last.clear()
        if time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            self._look_at_disks()

    def _judge(self) -> None:
        share, before = _failed_share(self._last), _failed_share(self._before)
        if share < MANY or share < TIMES_MORE * before:
            return
        failed = {name: n for name, n in self._last.items() if not Outcome(name).has_results}
        than = f", {_failed_percentage(self._before)} of those before" if self._before else ""
        self._progress.warn(
            "error_rate",
            f"{_failed_percentage(self._last)} of the last {self._last.total():,} rows failed "
            f"({counted(failed)}){than}; `gemma3-batch errors` shows why",
            share=round(share, 3),
            before=round(before, 3),
            outcomes=failed,
        )

    def _look_at_disks(self) -> None:
        """OUTPUT's, where it is a disk, and that of drafts and of Ray's files."""
        if self._output.is_local:
            self._look_at("OUTPUT", self._output.path)
        self._look_at("temporary files", tempfile.gettempdir())

    def _look_at(self, what: str, path: str) -> None:
        try:
            free = shutil.disk_usage(path).free
        except OSError:  # it is not there yet, or not any more, which the run will notice
            return
        if free < LEAST_FREE:
            self._progress.warn(
                f"disk of {what}",
                f"the disk of {what} has {free / GIB:.1f} GiB left ({path}); make room, or the run "
                "stops when it is full",
                path=path,
                free_bytes=free,
            )


def _failed(outcomes: Counter[str]) -> int:
    return sum(n for name, n in outcomes.items() if not Outcome(name).has_results)


def _failed_share(outcomes: Counter[str]) -> float:
    return _failed(outcomes) / (outcomes.total() or 1)


def _failed_percentage(outcomes: Counter[str]) -> str:
    return percentage(_failed(outcomes), outcomes.total())
