"""Whether a run goes so wrong that it should stop: the share of its rows that have no results.

Of units that are not complete the receipts are counted, in which a row that equals another one has
no outcome yet; of committed units their exact counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.contract.errors import RunError
from pipeline.contract.record import Outcome

if TYPE_CHECKING:
    from pipeline.output.parts import Committed

JUDGED_ROWS = 200
"""Finished rows before a run can be stopped: a rate needs a sample."""


class ErrorRateError(RunError):
    """More rows failed than the user allows."""


class ErrorRate:
    """Counts rows and failures.

    Args:
        most: The share that is allowed; None for any.
    """

    def __init__(self, most: float | None) -> None:
        self._most = most
        self._open: dict[str, tuple[int, int]] = {}
        self._rows = self._failed = 0
        self._example: str | None = None

    def note(self, unit_id: str, rows: int, failed: int, error: str | None) -> None:
        """Count rows of a unit that is not complete. Raises ErrorRateError."""
        before = self._open.get(unit_id, (0, 0))
        self._open[unit_id] = (before[0] + rows, before[1] + failed)
        self._example = error or self._example
        self.check(least=JUDGED_ROWS)

    def settle(self, unit_id: str, committed: Committed) -> None:
        """Count a committed unit. Raises ErrorRateError."""
        self._open.pop(unit_id, None)
        self._rows += committed.rows
        self._failed += sum(
            rows for outcome, rows in committed.outcomes.items() if not Outcome(outcome).has_results
        )
        self.check(least=JUDGED_ROWS)

    def check(self, *, least: int) -> None:
        """Judge, once so many rows are finished. Raises ErrorRateError."""
        if self._most is None:
            return
        rows = self._rows + sum(rows for rows, _ in self._open.values())
        failed = self._failed + sum(failed for _, failed in self._open.values())
        if rows < least or failed <= self._most * rows:
            return
        raise ErrorRateError(
            f"{failed:,} of {rows:,} rows failed, more than max_error_rate {self._most:g} allows; "
            f"the last: {self._example}\n"
            "What is finished is kept; fix the cause and run the same command again."
        )
