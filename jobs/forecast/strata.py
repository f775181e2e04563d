"""Decides which rows count as equally large, and how many of each kind a pilot computes.

Rows are divided by the size of what they hold: the smallest twentieth (where empty and cut-off
files are), then up to the median, up to four fifths, up to nineteen twentieths, and the largest.
Each kind gets its share of the pilot, but small kinds at least `LEAST_SHARE`: the long texts and
large images are few, and take most time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

BORDERS = (0.05, 0.5, 0.8, 0.95)
"""Shares of the rows below the borders between strata."""
LEAST_SHARE = 0.1
"""Of the pilot, for each stratum that has as many rows."""


def stratify(sizes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[n] int64: the stratum of each row, from 0 without gaps.

    Args:
        sizes: [n] float64, what each row holds, in bytes.
        weights: [n] float64, how many rows of the input each one stands for.
    """
    if not len(sizes):
        return np.zeros(0, np.int64)
    order = np.argsort(sizes, kind="stable")
    below = np.cumsum(weights[order]) / weights.sum()
    places = np.minimum(np.searchsorted(below, BORDERS), len(sizes) - 1)
    borders = sizes[order][places]  # the largest of each stratum, so that equal sizes stay together
    _, strata = np.unique(np.searchsorted(borders, sizes, side="left"), return_inverse=True)
    return strata.astype(np.int64)


def allocate(counts: Sequence[int], shares: Sequence[float], total: int) -> list[int]:
    """How many rows of each stratum are drawn: together `total`, or all rows if there are fewer.

    Args:
        counts: Rows of each stratum that can be drawn.
        shares: Its share of the input.
        total: Rows to draw.
    """
    total = min(total, sum(counts))
    least = int(LEAST_SHARE * total)
    drawn = [min(count, least) for count in counts]
    for _ in range(total - sum(drawn)):
        open_ = [at for at, count in enumerate(counts) if drawn[at] < count]
        # Sainte-Lague: the next one goes where the share is largest for what is drawn already.
        drawn[max(open_, key=lambda at: shares[at] / (2 * drawn[at] + 1))] += 1
    return drawn
