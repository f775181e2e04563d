"""Which step a second counts for."""

from __future__ import annotations

import contextlib
import threading

import pytest

from pipeline.profiling import stopwatch
from pipeline.profiling.stopwatch import restart, step, take


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "perf_counter", clock)
    restart("test", "base")
    take()
    return clock


def test_a_step_within_another_one_counts_for_itself_alone(clock: Clock) -> None:
    restart("render", "prepare")
    clock.pass_(1)
    with step("tokenise"):
        clock.pass_(2)
        for _ in range(2):
            with step("resize"):
                clock.pass_(4)
        clock.pass_(0.5)
    clock.pass_(0.25)
    assert take() == {"prepare": 1.25, "tokenise": 2.5, "resize": 8}
    assert take() == {}


def test_time_between_two_stretches_counts_for_nothing(clock: Clock) -> None:
    restart("read", "read")
    clock.pass_(1)
    assert take() == {"read": 1}
    clock.pass_(100)
    with step("pack"):  # what is done after a block is given away counts for the next one
        clock.pass_(2)
    clock.pass_(100)
    restart("read", "read")
    clock.pass_(4)
    assert take() == {"pack": 2, "read": 4}


def test_an_error_and_another_stage_leave_nothing_behind(clock: Clock) -> None:
    restart("read", "read")
    with contextlib.suppress(OSError), step("pack"):
        clock.pass_(1)
        raise OSError
    clock.pass_(100)
    restart("parse", "parse")
    clock.pass_(2)
    assert take() == {"parse": 2}


def test_each_thread_has_its_own(clock: Clock) -> None:
    restart("read", "read")
    found = []

    def other() -> None:
        with step("fetch"):
            clock.pass_(1)
        found.append(take())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [{"fetch": 1}]
    assert take() == {"read": 1}
