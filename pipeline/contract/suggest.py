"""What a user may have meant by a name that there is not."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def suggestion(name: str, names: Iterable[str]) -> str:
    """`did you mean 'x'? ` with the nearest of the names; empty where none is near."""
    nearest = difflib.get_close_matches(name, [*names], n=1, cutoff=0.5)
    return f"did you mean '{nearest[0]}'? " if nearest else ""
