"""Decides how lengths, tokens and scores of rows are counted in bars.

A row counts as many times as there are rows of OUTPUT that it stands for, so what is drawn is an
estimate of all of OUTPUT, and exact where all rows were read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BARS = 24
NICE = (1, 2, 2.5, 5, 10)
TAIL = 0.99
"""Values beyond this quantile are counted in the last bar, if they would make the others narrow."""
NARROW = 2.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar.

    Attributes:
        low: Least value that is counted in it.
        high: Values below it; None for the last bar, which has all above.
        rows: How many rows.
    """

    low: float
    high: float | None
    rows: float


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Bars of one number of each row.

    Attributes:
        title: What is counted.
        unit: In what.
        bars: From the lowest up.
        median: The value that half of the rows have at most.
        p95: That 95 % have.
        largest: Of the rows that were read.
        column: The column, where the bars are of a score whose threshold moves.
    """

    title: str
    unit: str
    bars: tuple[Bar, ...]
    median: float
    p95: float
    largest: float
    column: str | None = None

    @property
    def most(self) -> float:
        """Rows in the highest bar."""
        return max(bar.rows for bar in self.bars)


def histogram(
    title: str, unit: str, values: Sequence[float | None], weights: np.ndarray
) -> Histogram | None:
    """The histogram of numbers; None where there are none.

    Args:
        title: What is counted.
        unit: In what.
        values: Of each row; None counts nowhere.
        weights: [rows] float64, how many rows of OUTPUT each stands for.
    """
    numbers, weight = _known(values, weights)
    if not len(numbers):
        return None
    median, p95, tail = (float(n) for n in quantiles(numbers, weight, (0.5, 0.95, TAIL)))
    low, high = float(min(0.0, numbers.min())), float(numbers.max())
    is_cut = high - low > NARROW * (tail - low) and tail > low
    whole = bool((numbers == np.floor(numbers)).all())
    edges = _edges(low, tail if is_cut else high, is_whole=whole)
    counts = _counts(numbers, weight, edges)
    highs = [*edges[1:-1], None if is_cut else edges[-1]]
    bars = tuple(
        Bar(low=start, high=end, rows=float(count))
        for start, end, count in zip(edges, highs, counts, strict=False)
    )
    return Histogram(title=title, unit=unit, bars=bars, median=median, p95=p95, largest=high)


def of_scores(
    title: str, column: str, values: Sequence[float | None], weights: np.ndarray
) -> Histogram | None:
    """The histogram of probabilities, with bars of 0.05 from 0 to 1; None where there are none."""
    numbers, weight = _known(values, weights)
    if not len(numbers):
        return None
    edges = [round(n / 20, 2) for n in range(21)]
    counts = _counts(numbers, weight, edges)
    median, p95 = (float(n) for n in quantiles(numbers, weight, (0.5, 0.95)))
    bars = tuple(
        Bar(low=low, high=high, rows=float(count))
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    )
    largest = float(numbers.max())
    return Histogram(
        title=title, unit="", bars=bars, median=median, p95=p95, largest=largest, column=column
    )


def quantiles(numbers: np.ndarray, weights: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """[shares] the least numbers that at least these shares of the weight have at most.

    Args:
        numbers: [n] float64.
        weights: [n] float64.
        shares: Each from 0 to 1.
    """
    order = np.argsort(numbers, kind="stable")
    upto = np.cumsum(weights[order])
    wanted = np.asarray(shares) * upto[-1]
    places = np.minimum(np.searchsorted(upto, wanted - 1e-9 * upto[-1]), len(order) - 1)
    found: np.ndarray = numbers[order][places]
    return found


def _known(values: Sequence[float | None], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    is_known = np.isfinite(numbers)
    return numbers[is_known], weights[is_known]


def _edges(low: float, high: float, *, is_whole: bool) -> list[float]:
    """Borders of at most `BARS` bars of a round width that hold all from `low` to `high`."""
    rough = max(high - low, 1e-9) / BARS
    power = 10.0 ** np.floor(np.log10(rough))
    width = next(nice * power for nice in NICE if nice * power >= rough)
    if is_whole:
        width = max(1.0, float(np.ceil(width)))
    first = float(np.floor(low / width)) * width
    count = int(np.floor((high - first) / width)) + 1
    return [float(f"{first + width * n:.10g}") for n in range(count + 1)]


def _counts(numbers: np.ndarray, weights: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """[bars] weight in each; what is at or above the last border is in the last bar."""
    places = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(places, weights=weights, minlength=len(edges) - 1)
