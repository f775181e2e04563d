"""Whether too many rows fail, so that a run should stop. Rows of earlier runs do not count.

With a limit: once a larger share of this run's rows has no results. Without one: if the first few
hundred have none, and all for the same reason, which is then not theirs (a token that has expired,
a wrong column, an engine that answers nothing of use).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.contract.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable

JUDGED_ROWS = 200
"""Finished rows before a run may be stopped; the share among fewer says little."""
GO_ON = "What is finished is kept; fix the cause and run the same command again"


class ErrorRateError(RunError):
    """More rows failed than `max_error_rate` allows, or the first rows all failed alike."""


class ErrorRate:
    """Counts rows and failures of a run.

    Args:
        most: Largest allowed share of rows without results, 0 to 1; None for what the module says.
    """

    def __init__(self, most: float | None) -> None:
        self._most = most
        self._rows = self._failed = 0
        self._reasons: set[str] = set()
        self._example = ""

    def note(
        self, rows: int, failed: int, *, reasons: Iterable[str] = (), error: str | None = None
    ) -> None:
        """Count newly finished rows.

        Args:
            rows: How many rows.
            failed: How many of them have no results.
            reasons: Why these failed (`contract.reason`).
            error: The error of one of them.

        Raises:
            ErrorRateError: Too many rows failed.
        """
        self._rows += rows
        self._failed += failed
        self._example = error or self._example
        if self._failed == self._rows:
            self._reasons.update(reasons)
        self.check(least=JUDGED_ROWS)

    def check(self, *, least: int) -> None:
        """Judge, if `least` rows or more are finished.

        Raises:
            ErrorRateError: Too many rows failed.
        """
        if self._rows < least or not self._failed:
            return
        if self._most is None:
            self._check_alike()
        elif self._failed / self._rows > self._most:  # 29 of 100 are 0.29; 0.29 * 100 is less
            raise ErrorRateError(
                f"{self._failed:,} of {self._rows:,} rows failed, more than max_error_rate "
                f"{self._most:g} allows; the last: {self._example}\n{GO_ON}."
            )

    def _check_alike(self) -> None:
        if self._failed == self._rows >= JUDGED_ROWS and len(self._reasons) == 1:
            raise ErrorRateError(
                f"all {self._rows:,} rows so far failed, and all alike; the last: {self._example}\n"
                f"{GO_ON}; `retry` then does these rows again. To go on regardless, set "
                "max_error_rate to 1."
            )
