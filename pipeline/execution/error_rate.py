"""Whether too many rows fail, so that a run should stop: the share of its rows without results.

A committed unit counts exactly. A unit in progress counts by its receipts, in which a row with
`same_as` is not a failure yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.contract.errors import RunError
from pipeline.contract.record import Outcome

if TYPE_CHECKING:
    from pipeline.output.parts import Committed

JUDGED_ROWS = 200
"""Finished rows before a run may be stopped; the share among fewer says little."""


class ErrorRateError(RunError):
    """More rows failed than `max_error_rate` allows."""


class ErrorRate:
    """Counts rows and failures.

    Args:
        most: Largest allowed share of rows without results, 0 to 1; None for any.
    """

    def __init__(self, most: float | None) -> None:
        self._most = most
        self._open: dict[str, tuple[int, int]] = {}
        self._rows = self._failed = 0
        self._example: str | None = None

    def note(self, unit_id: str, rows: int, failed: int, error: str | None) -> None:
        """Count newly finished rows of a unit that is not committed.

        Args:
            unit_id: The unit.
            rows: How many rows.
            failed: How many of them have no results.
            error: The error of one of those.

        Raises:
            ErrorRateError: More rows failed than allowed.
        """
        before = self._open.get(unit_id, (0, 0))
        self._open[unit_id] = (before[0] + rows, before[1] + failed)
        self._example = error or self._example
        self.check(least=JUDGED_ROWS)

    def settle(self, unit_id: str, committed: Committed) -> None:
        """Count a committed unit, in place of what was noted of it. Raises ErrorRateError."""
        self._open.pop(unit_id, None)
        self._rows += committed.rows
        self._failed += sum(
            rows for outcome, rows in committed.outcomes.items() if not Outcome(outcome).has_results
        )
        self.check(least=JUDGED_ROWS)

    def check(self, *, least: int) -> None:
        """Compare the share with the allowed one if `least` rows or more are finished.

        Raises:
            ErrorRateError: More rows failed than allowed.
        """
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
