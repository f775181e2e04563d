"""How sure a counted share is; the numbers are those of the formula, worked out by hand."""

from __future__ import annotations

import math

import pytest

from jobs.forecast.intervals import Interval, effective_size, wilson


@pytest.mark.parametrize(
    ("share", "size", "low", "high"),
    [
        (0.1, 100, 0.05523, 0.17437),
        (0.0, 100, 0.0, 0.03699),
        (1.0, 100, 0.96301, 1.0),
        (0.5, 10, 0.23659, 0.76341),
    ],
)
def test_a_share_has_the_score_interval(share: float, size: float, low: float, high: float) -> None:
    found = wilson(share, size)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-5)
    assert share in found


def test_nothing_that_was_seen_says_nothing_and_all_of_it_everything() -> None:
    assert wilson(0.0, 0) == Interval(0.0, 1.0)
    assert wilson(0.25, math.inf) == Interval(0.25, 0.25)


def test_rows_drawn_as_the_strata_are_count_fully() -> None:
    assert effective_size([0.75, 0.25], [300, 100], 10**12) == pytest.approx(400)


def test_rows_of_a_stratum_that_has_too_many_count_less() -> None:
    # 1 / (0.9**2 / 200 + 0.1**2 / 200)
    assert effective_size([0.9, 0.1], [200, 200], 10**12) == pytest.approx(243.902, abs=1e-3)


def test_a_sample_of_much_of_the_rows_counts_more_and_of_all_rows_leaves_no_doubt() -> None:
    assert effective_size([1.0], [400], 2000) == pytest.approx(400 * 1999 / 1600)
    assert effective_size([1.0], [2000], 2000) == math.inf
    assert effective_size([1.0], [0], 2000) == 0
