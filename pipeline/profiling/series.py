"""Amounts over time, in at most `MOST_POINTS` points: when they are full, neighbours are merged.

Only amounts that add up (rows, seconds, requests times seconds) are kept, so that merging loses
nothing but the resolution.
"""

from __future__ import annotations

MOST_POINTS = 120
FIRST_S = 0.25
"""Seconds of a point at first."""


class Series:
    """Amounts by name and time. Times are seconds from the begin; what is earlier counts there."""

    def __init__(self) -> None:
        self.every = FIRST_S
        """Seconds of a point."""
        self._amounts: dict[str, list[float]] = {}

    def add(self, name: str, at: float, amount: float) -> None:
        """Count an amount at a moment."""
        index = self._index(at)
        self._slot(name, index)[index] += amount

    def spread(self, name: str, began: float, ended: float, amount: float) -> None:
        """Count an amount evenly over a stretch of time."""
        last = self._index(max(ended, 0.0))  # merges what is there where it must
        first = self._index(began)
        if last <= first or ended <= began:
            self.add(name, ended, amount)
            return
        points, began = self._slot(name, last), max(began, 0.0)
        for index in range(first, last + 1):
            inside = min(ended, (index + 1) * self.every) - max(began, index * self.every)
            points[index] += amount * inside / (ended - began)

    def amounts(self, name: str, points: int) -> list[float]:
        """The amounts of each point, from the first one on; `points` of them."""
        found = self._amounts.get(name, [])
        return [*found, *[0.0] * points][:points]

    def _index(self, at: float) -> int:
        while at >= MOST_POINTS * self.every:
            self.every *= 2
            for name, points in self._amounts.items():
                pairs = zip([*points[::2]], [*points[1::2], 0.0], strict=False)
                self._amounts[name] = [one + other for one, other in pairs]
        return int(max(at, 0.0) / self.every)

    def _slot(self, name: str, index: int) -> list[float]:
        points = self._amounts.setdefault(name, [])
        if index >= len(points):
            points += [0.0] * (index + 1 - len(points))
        return points
