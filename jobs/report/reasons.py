"""Groups failures by what their errors say, whatever file, number or text each one names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NAMES = re.compile(
    r"""'[^']*'|"[^"]*"|`[^`]*`   # quoted
    | \b[a-z0-9]+://\S+           # a link
    | (?<![\w<])~?/[^\s:;,]+      # a path
    | [\w.-]+\.[A-Za-z][A-Za-z0-9]{1,4}\b(?!\()  # a file
    | \d[\d.,:_]*\d|\d""",
    re.VERBOSE,
)
HOLE = "…"
LONGEST = 200


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Rows that failed alike.

    Attributes:
        outcome: Their outcome.
        text: What their errors say, without names and numbers.
        example: One error as it is.
        rows: About how many there are in OUTPUT; exactly, where all of them were read.
        is_exact: Whether all were read.
    """

    outcome: str
    text: str
    example: str
    rows: float
    is_exact: bool


def group(
    outcomes: Sequence[str], errors: Sequence[str | None], weights: Mapping[str, float]
) -> tuple[list[Reason], list[int]]:
    """Group rows by outcome and error.

    Args:
        outcomes: Of each row.
        errors: Of each row; None or empty for a row that did not fail.
        weights: By outcome, how many rows of OUTPUT a row stands for.

    Returns:
        The reasons, the largest first; and for each row the place of its own there, or -1.
    """
    rows: dict[tuple[str, str], list[int]] = {}
    for row, (outcome, error) in enumerate(zip(outcomes, errors, strict=True)):
        if error:
            rows.setdefault((outcome, pattern(error)), []).append(row)
    size = {key: len(found) * weights[key[0]] for key, found in rows.items()}
    ordered = sorted(rows, key=lambda key: (-size[key], key))
    place = [-1] * len(outcomes)
    for number, key in enumerate(ordered):
        for row in rows[key]:
            place[row] = number
    reasons = [
        Reason(
            outcome=key[0],
            text=key[1],
            example=errors[rows[key][0]] or "",
            rows=size[key],
            is_exact=weights[key[0]] == 1,
        )
        for key in ordered
    ]
    return reasons, place


def pattern(error: str) -> str:
    """An error without what it names."""
    text = " ".join(NAMES.sub(HOLE, error).split())
    text = re.sub(rf"{HOLE}(?:[\s,]*{HOLE})+", HOLE, text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + HOLE
