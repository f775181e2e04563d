"""Amounts over time."""

from __future__ import annotations

import pytest

from pipeline.profiling.series import FIRST_S, MOST_POINTS, Series


def test_merging_keeps_the_amounts_and_their_time() -> None:
    series = Series()
    for second in range(1000):
        series.add("rows", second, second)
    assert series.every == 16
    points = series.amounts("rows", 63)
    assert sum(points) == sum(range(1000))
    assert points[:2] == [sum(range(16)), sum(range(16, 32))]
    assert series.every * MOST_POINTS >= 1000


def test_a_stretch_is_spread_evenly() -> None:
    series = Series()
    series.spread("busy", 0.2, 1.2, 10)
    points = series.amounts("busy", 6)
    assert points == pytest.approx([0.5, 2.5, 2.5, 2.5, 2.0, 0.0])
    series.spread("busy", 0.5, 0.5, 1)  # a moment
    series.spread("busy", -3, 0.1, 3.1)  # a clock that is behind
    assert sum(series.amounts("busy", 6)) == pytest.approx(14.1, abs=3.1)
    series.spread("busy", 0, MOST_POINTS * FIRST_S * 8, 100)  # merges while it is spread
    assert sum(series.amounts("busy", MOST_POINTS)) == pytest.approx(114.1, abs=3.1)
