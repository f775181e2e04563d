"""Rows are divided by size; few large ones are drawn more often than their share."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.forecast.strata import allocate, stratify


def test_strata_are_the_smallest_the_common_and_the_largest_rows() -> None:
    strata = stratify(np.arange(100.0), np.ones(100))
    assert np.bincount(strata).tolist() == [5, 45, 30, 15, 5]
    assert (np.diff(strata) >= 0).all()


def test_rows_of_one_size_are_of_one_stratum() -> None:
    assert set(stratify(np.full(50, 7.0), np.ones(50)).tolist()) == {0}
    sizes = np.array([0.0] * 2 + [10.0] * 94 + [1000.0] * 4)
    assert np.bincount(stratify(sizes, np.ones(100))).tolist() == [96, 4]


def test_a_row_that_stands_for_many_moves_the_borders() -> None:
    sizes, weights = np.array([1.0, 2.0, 3.0]), np.array([98.0, 1.0, 1.0])
    assert stratify(sizes, weights).tolist() == [0, 1, 1]


def test_each_stratum_has_its_share_and_small_ones_a_tenth() -> None:
    shares = [0.05, 0.45, 0.3, 0.15, 0.05]
    counts = [100, 900, 600, 300, 100]
    drawn = allocate(counts, shares, 400)
    assert drawn == [40, 160, 107, 53, 40]  # 320 for the three in the middle, 45 : 30 : 15


def test_a_stratum_gives_no_more_than_it_has() -> None:
    assert allocate([3, 500], [0.5, 0.5], 100) == [3, 97]
    assert allocate([3, 5], [0.5, 0.5], 100) == [3, 5]


@pytest.mark.parametrize("seed", range(50))
def test_as_many_rows_are_drawn_as_can_be(seed: int) -> None:
    random = np.random.default_rng(seed)
    counts = random.integers(0, 500, random.integers(1, 7)).tolist()
    shares = random.dirichlet(np.ones(len(counts))).tolist()
    total = int(random.integers(1, 800))
    drawn = allocate(counts, shares, total)
    assert sum(drawn) == min(total, sum(counts))
    assert all(0 <= some <= count for some, count in zip(drawn, counts, strict=True))
