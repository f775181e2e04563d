"""The kinds of failure: of the whole run, of a unit, and of one row.

Whoever finds a failure decides which kind it is by what they raise or return; no message holds
credentials. The command line prints the failure of a run, the journal stores that of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.contract.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.contract.record import Outcome


class UserError(ValueError):
    """A configuration or input that cannot be run: one line that names the thing and the fix."""

    def __str__(self) -> str:
        """The message, without credentials."""
        return redact(super().__str__())


class RunError(RuntimeError):
    """A run that began and could not be finished: one or two lines that say where it stopped."""

    def __str__(self) -> str:
        """The message, without credentials."""
        return redact(super().__str__())


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure of a unit or of the whole run, as it travels in a block; not of a row.

    Attributes:
        ends_run: Whether the whole run ends; otherwise only the row's unit cannot be done.
        message: What is wrong, in one line.
        is_users: Whether the user can fix it; the run then ends with a `UserError`.
    """

    ends_run: bool
    message: str
    is_users: bool = False


class RowError(Exception):
    """One row that cannot be computed; the others go on.

    Args:
        outcome: The row's outcome.
        stage: The step that failed: `fetch`, `decode`, `render`, `generate` or `parse`.
        message: What is wrong, without the stage.
    """

    def __init__(self, outcome: Outcome, stage: str, message: str) -> None:
        super().__init__(outcome, stage, message)
        self.outcome = outcome
        self.stage = stage
        self.message = message

    def __str__(self) -> str:
        """The text of the row's `error` column, without credentials."""
        return redact(f"{self.stage}: {self.message}")


def one_line(error: BaseException, limit: int = 300) -> str:
    """Class and message of an exception on one line of at most `limit` characters, redacted."""
    message = str(error)
    response = getattr(error.__cause__, "response", None)
    if message == "None" and isinstance(response, dict):
        # s3fs 2026.9 passes on an empty message, as Ceph RGW sends it, instead of the error's code.
        # Can go when its `translate_boto_error` does not.
        message = str(response.get("Error", {}).get("Code"))
    message = " ".join(message.split())
    return excerpt(f"{type(error).__name__}: {message}" if message else type(error).__name__, limit)


def excerpt(text: str, limit: int = 300) -> str:
    """A text, or its begin, of at most `limit` characters, redacted."""
    text = redact(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shortened(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, and how many more there are: `a, b, c and 7 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
