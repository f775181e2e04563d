"""Decides how sure a share is that was counted in a sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Z = 1.96
"""Standard deviations to each side that hold 95 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, in which the true value lies with a probability of 95 %."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def wilson(share: float, size: float, z: float = Z) -> Interval:
    """The score interval of a share (Wilson, JASA 1927).

    Args:
        share: The share that was seen, from 0 to 1.
        size: In how many rows; infinity where all rows were seen.
        z: Standard deviations to each side.
    """
    if math.isinf(size):
        return Interval(share, share)
    if size <= 0:
        return Interval(0.0, 1.0)
    weight = z * z / size
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) / size + weight / size / 4) * z / (1 + weight)
    # At 0 and 1 rounding would leave the share itself out.
    return Interval(max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def effective_size(shares: Sequence[float], sizes: Sequence[int], population: float) -> float:
    """How many rows drawn evenly say as much as rows that were drawn by strata (Kish, 1965).

    Infinity if the sample is the whole population, of which little is unknown even before that.

    Args:
        shares: The share of the population in each stratum.
        sizes: The rows that were drawn of each; a stratum without any counts as no share.
        population: Rows of the population.
    """
    drawn = [(share, size) for share, size in zip(shares, sizes, strict=True) if size]
    whole = sum(share for share, _ in drawn)
    variance = sum((share / whole) ** 2 / size for share, size in drawn) if whole else 0.0
    count = sum(size for _, size in drawn)
    if not count:
        return 0.0
    if count >= population:
        return math.inf
    return (population - 1) / (population - count) / (variance or 1.0)
