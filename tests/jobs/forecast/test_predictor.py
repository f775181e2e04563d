"""Time, tokens and failures of all rows from those of some, with numbers worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest

from jobs.forecast.course import Course
from jobs.forecast.intervals import wilson
from jobs.forecast.predictor import (
    Population,
    SampledRow,
    outcomes,
    quantiles,
    share_of,
    size,
    time_of,
    weights,
)

EVEN = Population(rows=10_000, computed=1.0, shares=(1.0,))
ROWS = [SampledRow(stratum=0, prompt_tokens=100, output_tokens=25)] * 400
COURSE = Course(
    seconds=60.0,
    start=20.0,
    finished=tuple((20.0 + at, 10 * at) for at in range(1, 41)),
    slots=50,
)
"""400 rows at 10 a second, from second 20 to second 60: 20 s come once."""


def test_time_is_what_comes_once_and_what_each_row_takes() -> None:
    found = time_of(COURSE, ROWS, EVEN, replicas=1)
    assert (found.start, found.once) == (20.0, 20.0)
    assert found.rows_per_second == pytest.approx(10.0)
    assert found.seconds == pytest.approx(20 + 10_000 / 10)
    # 5 % of 1,000 s, and 15 % of 20 s, each 1.96 times
    around = math.hypot(1.96 * 0.05 * 1000, 1.96 * 0.15 * 20)
    assert found.interval.high - found.seconds == pytest.approx(around)
    assert found.seconds - found.interval.low == pytest.approx(around)


def test_a_pilot_that_was_disturbed_is_less_sure() -> None:
    found = time_of(COURSE, ROWS, EVEN, replicas=1, disturbed=0.3)
    assert found.seconds == pytest.approx(20 + 10_000 / 10)
    around = math.hypot(1.96 * math.hypot(0.05, 0.3) * 1000, 1.96 * 0.15 * 20)
    assert found.interval.high - found.seconds == pytest.approx(around)


def test_filling_and_the_end_are_paid_once() -> None:
    slow = Course(
        seconds=75.0,
        start=20.0,
        finished=tuple((25.0 + at, 10 * at) for at in range(1, 41)),
        slots=50,
    )
    assert time_of(slow, ROWS, EVEN, replicas=1).once == pytest.approx(35.0)


def test_more_engines_do_more_until_something_else_bounds_them() -> None:
    assert time_of(COURSE, ROWS, EVEN, replicas=5).seconds == pytest.approx(20 + 200)
    bound = time_of(COURSE, ROWS, EVEN, replicas=5, limit=20.0)
    assert bound.seconds == pytest.approx(20 + 500)
    one = time_of(COURSE, ROWS, EVEN, replicas=1, limit=4.0)  # it did more than that
    assert one.seconds == pytest.approx(20 + 1000)


def test_the_engines_of_a_pilot_count() -> None:
    two = dataclasses.replace(COURSE, engines=2)
    assert time_of(two, ROWS, EVEN, replicas=4).seconds == pytest.approx(20 + 500)


def test_identical_rows_take_no_time() -> None:
    population = Population(rows=10_000, computed=0.3, shares=(1.0,))
    assert time_of(COURSE, ROWS, population, replicas=1).seconds == pytest.approx(20 + 300)


def test_long_rows_that_a_pilot_has_too_many_of_are_weighed_down() -> None:
    """Half of the pilot are rows of 900, of the input a tenth: 180 a row instead of 500."""
    population = Population(rows=10_000, computed=1.0, shares=(0.9, 0.1))
    rows = [
        *[SampledRow(stratum=0, prompt_tokens=60, output_tokens=10)] * 200,
        *[SampledRow(stratum=1, prompt_tokens=500, output_tokens=100)] * 200,
    ]
    found = time_of(COURSE, rows, population, replicas=1)
    assert found.cost == pytest.approx(0.36)
    assert found.seconds == pytest.approx(20 + 360)


def test_what_bounds_before_the_engine_is_counted_in_bytes() -> None:
    population = Population(rows=10_000, computed=1.0, shares=(0.5, 0.5))
    rows = [
        *[SampledRow(stratum=0, size=1000, prompt_tokens=1)] * 100,
        *[SampledRow(stratum=1, size=5000, prompt_tokens=1)] * 300,
    ]
    assert time_of(COURSE, rows, population, replicas=1, cost=size).cost == pytest.approx(0.75)


def test_lengths_that_differ_within_a_stratum_make_the_time_unsure() -> None:
    lengths = [100, 300] * 200
    rows = [SampledRow(stratum=0, prompt_tokens=length) for length in lengths]
    found = time_of(COURSE, rows, EVEN, replicas=1)
    unsure = math.sqrt(100**2 * 400 / 399 / 400) / 200  # of the mean, as a share of it
    around = math.hypot(1.96 * math.hypot(0.05, unsure) * 1000, 1.96 * 0.15 * 20)
    assert found.interval.high - found.seconds == pytest.approx(around)


def test_failures_are_weighed_by_stratum() -> None:
    """Of small rows a half fails, of the others one in a hundred; small ones are a twentieth."""
    population = Population(rows=10**9, computed=1.0, shares=(0.05, 0.95))
    bad = SampledRow(stratum=0, outcome="decode_error", is_failure=True)
    rows = [
        *[bad] * 20,
        *[SampledRow(stratum=0)] * 20,
        *[SampledRow(stratum=1)] * 198,
        *[SampledRow(stratum=1, outcome="too_long", is_failure=True)] * 2,
    ]
    failed = share_of(rows, population, lambda row: row.is_failure)
    assert failed.share == pytest.approx(0.05 * 0.5 + 0.95 * 0.01)
    assert failed.share in failed.interval
    found = outcomes(rows, population)
    assert [*found] == ["decode_error", "too_long"]
    assert found["decode_error"].share == pytest.approx(0.025)
    assert found["too_long"].share == pytest.approx(0.0095)


def test_a_row_with_identical_ones_stands_for_them_too() -> None:
    rows = [
        SampledRow(stratum=0, copies=9, outcome="decode_error", is_failure=True),
        *[SampledRow(stratum=0)] * 91,
    ]
    failed = share_of(rows, EVEN, lambda row: row.is_failure)
    assert failed.share == pytest.approx(0.09)
    assert sum(weights(rows, EVEN)) == pytest.approx(1.0)
    # One draw decides on nine rows: as sure as 12 rows with equal weights, not 92.
    variance = (0.09 * 0.91) ** 2 + 91 * (0.01 * 0.09) ** 2
    expected = wilson(0.09, 0.09 * 0.91 / variance)
    assert failed.interval.high == pytest.approx(expected.high, abs=2e-3)
    assert failed.interval.high > wilson(0.09, 92).high + 0.1


def test_a_pilot_of_all_rows_leaves_no_doubt() -> None:
    population = Population(rows=4, computed=1.0, shares=(1.0,))
    rows = [SampledRow(stratum=0, is_failure=at == 0, outcome="refused") for at in range(4)]
    found = share_of(rows, population, lambda row: row.is_failure)
    assert (found.interval.low, found.interval.high) == (0.25, 0.25)


def test_quantiles_are_of_the_weights() -> None:
    assert quantiles([1, 2, 3, 4], [1, 1, 1, 1], (0.5, 0.75, 1.0)) == (2, 3, 4)
    assert quantiles([10, 1], [0.01, 0.99], (0.5, 0.99, 1.0)) == (1, 1, 10)
