"""Which failures of rows have the same reason: the outcome and the error, without what differs."""

from __future__ import annotations

import re

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_WORD = re.compile(r"[^\W\d_]+")


def reason_of(outcome: str, error: str | None) -> str:
    """The reason of a row's failure, equal for rows that failed for the same one.

    Left out are quoted names and all words that are not of letters alone: paths, links, numbers.

    Args:
        outcome: The row's outcome.
        error: The text of its `error` column.
    """
    words = (word.strip(".,:;!?()[]") for word in _QUOTED.sub(" ", error or "").split())
    return " ".join([outcome, *filter(_WORD.fullmatch, words)])
