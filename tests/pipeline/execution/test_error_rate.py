"""When a run stops because its rows fail, and what it says then."""

from __future__ import annotations

import pytest

from pipeline.contract.reason import reason_of
from pipeline.execution.error_rate import ErrorRate, ErrorRateError


def fail(rate: ErrorRate, error: str) -> None:
    rate.note(1, 1, reasons=[reason_of("missing_input", error)], error=error)


def test_a_share_is_judged_once_there_are_enough_rows() -> None:
    rate = ErrorRate(0.1)
    for number in range(199):
        fail(rate, f"fetch: no {number}.png")
    with pytest.raises(ErrorRateError) as stopped:
        fail(rate, "fetch: no 199.png")
    assert str(stopped.value).splitlines() == [
        "200 of 200 rows failed, more than max_error_rate 0.1 allows; the last: fetch: no 199.png",
        "What is finished is kept; fix the cause and run the same command again.",
    ]
    few = ErrorRate(0.1)
    few.note(10, 1, error="x")
    few.check(least=1)
    few.note(1, 1)  # it equals the other one, so nothing is said of it
    with pytest.raises(ErrorRateError, match=r"2 of 11 rows failed.* the last: x"):
        few.check(least=1)


@pytest.mark.parametrize(("most", "failed"), [(0.29, 29), (0.57, 57), (0.58, 58)])
def test_a_run_that_is_exactly_at_its_limit_goes_on(most: float, failed: int) -> None:
    rate = ErrorRate(most)
    rate.note(100, failed, error="x")
    rate.check(least=1)
    with pytest.raises(ErrorRateError):
        rate.note(100, failed + 1)


def test_without_a_limit_a_run_stops_where_all_fail_alike() -> None:
    rate = ErrorRate(None)
    for number in range(199):
        fail(rate, f"fetch: '/in/{number}.png' does not exist (try {number})")
    with pytest.raises(ErrorRateError) as stopped:
        fail(rate, "fetch: '/in/199.png' does not exist (try 199)")
    first, second = str(stopped.value).splitlines()
    assert first == (
        "all 200 rows so far failed, and all alike; the last: fetch: '/in/199.png' does not exist "
        "(try 199)"
    )
    assert "set max_error_rate to 1" in second


@pytest.mark.parametrize("other", ["decode: broken", None])
def test_one_row_that_is_different_is_enough_to_go_on(other: str | None) -> None:
    rate = ErrorRate(None)
    if other is None:
        rate.note(1, 0)
    else:
        fail(rate, other)
    for _ in range(500):
        fail(rate, "fetch: gone")
    rate.check(least=1)


def test_a_run_may_be_told_to_go_on() -> None:
    rate = ErrorRate(1)
    for _ in range(500):
        fail(rate, "fetch: gone")
    rate.check(least=1)


def test_reasons_leave_out_what_differs_from_row_to_row() -> None:
    one, other = (
        reason_of("missing_input", f"fetch: FileNotFoundError: {path}: no such file")
        for path in ("/data/cat.png", "s3://bucket/dogs/7.png")
    )
    assert one == other
    assert reason_of("too_long", "render: the prompt has 9 tokens") == reason_of(
        "too_long", "render: the prompt has 12,345 tokens"
    )
    assert reason_of("too_long", "x") != reason_of("decode_error", "x")
    assert reason_of("decode_error", "decode: no image") != reason_of(
        "decode_error", "decode: empty"
    )
    assert reason_of("engine_error", None) == "engine_error"
