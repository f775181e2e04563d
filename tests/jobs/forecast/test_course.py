"""The steady rate is that of whole waves between the first and the last one."""

from __future__ import annotations

import dataclasses

import pytest

from jobs.forecast.course import Course, Piece, Steady, steady


def course(finished: list[tuple[float, int]], slots: int, seconds: float = 100.0) -> Course:
    return Course(seconds=seconds, start=10.0, finished=tuple(finished), slots=slots)


def test_rows_that_end_together_are_counted_in_whole_waves() -> None:
    """Four waves of 64 rows, 8 s each, in blocks of 32: half of one would say nothing."""
    blocks = [(10.0 + 8 * -(-block // 2), 32 * block) for block in range(1, 9)]
    assert steady(course(blocks, 64)) == Steady(rate=8.0, spread=0.0, rows=64)


def test_filling_and_emptying_are_left_out() -> None:
    """20 rows/s, but the first 20 rows and the last 20 take ten times as long."""
    points = [(20.0, 20)]
    points += [(20.0 + at, 20 + 20 * at) for at in range(1, 9)]
    points += [(38.0, 200)]
    found = steady(course(points, 20))
    assert found.rate == pytest.approx(20.0)
    assert (found.spread, found.is_short) == (0.0, False)


def test_a_rate_that_changes_is_told_as_spread() -> None:
    even = [(10.0 + at, 10 * at) for at in range(1, 21)]
    uneven = [(10.0 + at + (at > 9) * (at - 9), 10 * at) for at in range(1, 21)]
    assert steady(course(even, 40)).spread == pytest.approx(0.0)
    assert steady(course(uneven, 40)).spread > 0.1


def test_too_few_rows_for_two_waves_are_a_guess() -> None:
    found = steady(course([(12.0, 32), (15.0, 100)], 64))
    assert found == Steady(rate=20.0, spread=0.25, rows=100, is_short=True)


def test_rows_that_all_come_at_once_are_a_guess() -> None:
    assert steady(course([(20.0, 400)], 64)) == Steady(
        rate=40.0, spread=0.25, rows=400, is_short=True
    )


def test_where_the_middle_is_an_engine_that_empties_the_full_time_counts() -> None:
    """Ten slots, full for 9 s at 1 step a second, then for 30 s one long answer alone in it."""
    full = [Piece(10.0 + at, 1.0, 10.0, 1.0) for at in range(1, 10)]
    empty = [Piece(19.0 + at, 1.0, 1.0, 1.0) for at in range(1, 31)]
    blocks = [(41.0 + at, 10 * (at + 1)) for at in range(5)]
    plain = course(blocks, 10)
    found = steady(dataclasses.replace(plain, pieces=(*full, *empty)))
    # 50 rows take 120 steps of requests; a full engine does ten of them a second.
    assert found.rate == pytest.approx(50 / 120 * 10)
    assert steady(plain).rate == pytest.approx(10.0)


def test_engines_that_were_never_full_are_judged_by_the_rows() -> None:
    """Something before them bounds: rows come evenly, and few are in the engine."""
    blocks = [(10.0 + at, 10 * at) for at in range(1, 21)]
    pieces = tuple(Piece(10.0 + at, 1.0, 3.0, 20.0) for at in range(1, 21))
    found = steady(dataclasses.replace(course(blocks, 40), pieces=pieces))
    assert found.rate == pytest.approx(10.0)
