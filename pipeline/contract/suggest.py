"""Decides which name a user may have meant by one that does not exist."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


FILES = 0.75
"""How similar names of files should be: they end alike."""


def suggestion(name: str, names: Iterable[str], cutoff: float = 0.5) -> str:
    """`did you mean 'x'? `, with the most similar of `names`; empty where none is similar."""
    nearest = difflib.get_close_matches(name, [*names], n=1, cutoff=cutoff)
    return f"did you mean '{nearest[0]}'? " if nearest else ""
