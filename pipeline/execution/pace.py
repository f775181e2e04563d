"""How fast a run is: rows and tokens a second over the last minute, and the time that is left.

Rows come back in blocks, so a rate is that between two receipts; of a run whose receipts are
further apart than a minute, between the last few. The first receipt only starts the clock: the
engine's start would make the rate far too low.
"""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

WINDOW_S = 60.0
LEAST = 8
"""Receipts that are looked at, however old they are."""
SHORTEST_S = 1.0
"""In a shorter time than this, a rate says nothing."""


class Amounts(NamedTuple):
    """What is finished, or is finished each second."""

    rows: float = 0
    input_tokens: float = 0
    output_tokens: float = 0


class Pace:
    """Measures what is finished each second."""

    def __init__(self) -> None:
        self._sum = Amounts()
        self._receipts: deque[tuple[float, Amounts]] = deque()

    def add(self, amounts: Amounts) -> None:
        """Count what was finished now."""
        now = time.monotonic()
        self._sum = Amounts(*(one + more for one, more in zip(self._sum, amounts, strict=True)))
        self._receipts.append((now, self._sum))
        while len(self._receipts) > LEAST and self._receipts[1][0] < now - WINDOW_S:
            self._receipts.popleft()

    def each_second(self) -> Amounts:
        """What is finished each second by now; zeros while that is not known."""
        if not self._receipts:
            return Amounts()
        since, before = self._receipts[0]
        seconds = time.monotonic() - since
        if seconds < SHORTEST_S or self._sum.rows == before.rows:
            return Amounts()
        return Amounts(
            *((now - then) / seconds for now, then in zip(self._sum, before, strict=True))
        )
