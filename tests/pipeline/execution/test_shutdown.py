"""When a run leaves after SIGTERM: as soon as nothing is in flight."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable

import pytest

from pipeline.execution import shutdown as module
from pipeline.execution.display.display import display_of
from pipeline.execution.display.json_log import JsonLog
from pipeline.execution.progress import RunProgress
from pipeline.execution.shutdown import Interrupted, Shutdown, ShutdownError, graceful_shutdown

LONG = 600.0


class Engines:
    """A drain without Ray's store, of one engine or none."""

    rows: list[int | None]
    is_asked = False

    def ask(self) -> None:
        self.is_asked = True

    def engines(self) -> list[int | None]:
        return self.rows

    def forget(self) -> None:
        self.rows = []


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    engines = Engines()
    monkeypatch.setattr(module, "Drain", lambda: engines)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.01)
    return engines


def run(seconds: float, *steps: Callable[[Shutdown], object]) -> None:
    """A run that does these steps one after the other; fails if it comes to its end."""
    follow(RunProgress(display_of("t", None), 1), *steps, seconds=seconds)


def follow(
    progress: RunProgress, *steps: Callable[[Shutdown], object], seconds: float = LONG
) -> None:
    with graceful_shutdown(seconds, progress) as shutdown:
        for step in steps:
            step(shutdown)
        pytest.fail("it goes on")


def terminate(_: Shutdown) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_before_an_engine_is_ready_it_leaves_at_once(engines: Engines) -> None:
    engines.rows = []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ShutdownError, match="ended by SIGTERM"):
        run(LONG, terminate)
    assert not engines.is_asked
    assert signal.getsignal(signal.SIGTERM) == before


def test_it_leaves_when_all_rows_that_the_engines_gave_back_are_in_the_journal(
    engines: Engines,
) -> None:
    engines.rows = [None, 32]
    shutdown = Shutdown(LONG, RunProgress(display_of("t", None), 1))
    try:
        shutdown.receive(40)
        shutdown.begin(signal.SIGTERM)
        assert engines.is_asked
        assert not shutdown.is_done, "an engine is at work"
        engines.rows = [16, 32]
        assert not shutdown.is_done, "rows are on their way to the journal"
        shutdown.look()
        shutdown.receive(8)
        assert shutdown.is_done
        with pytest.raises(ShutdownError):
            shutdown.look()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.mark.parametrize("seconds", [0.05, 0.0])
def test_it_leaves_when_the_time_is_over(engines: Engines, seconds: float) -> None:
    engines.rows = [None]
    with pytest.raises(ShutdownError):
        run(seconds, terminate, *[lambda _: signal.pause()] * 100)


def test_a_second_signal_ends_it_at_once(engines: Engines) -> None:
    engines.rows = [None]
    with pytest.raises(ShutdownError):
        run(LONG, terminate, terminate)


def interrupt(_: Shutdown) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_finishes_what_is_in_flight_and_says_so(engines: Engines) -> None:
    engines.rows = [None]
    stream = io.StringIO()
    progress = RunProgress(display_of("t", JsonLog(stream)), 1)
    before = signal.getsignal(signal.SIGINT)

    def finish(_: Shutdown) -> None:
        assert engines.is_asked
        engines.rows = [0]
        signal.pause()

    with pytest.raises(Interrupted) as ended:
        follow(progress, interrupt, finish)
    assert not ended.value.at_once
    assert signal.getsignal(signal.SIGINT) == before
    told = json.loads(stream.getvalue())
    assert (told["event"], told["signal"]) == ("stopping", "SIGINT")
    assert "press it again to stop at once" in told["message"]


def test_a_second_ctrl_c_waits_for_nothing(engines: Engines) -> None:
    engines.rows = [None]
    with pytest.raises(Interrupted) as ended:
        run(LONG, interrupt, interrupt)
    assert ended.value.at_once


def test_no_further_round_begins_after_the_signal(engines: Engines) -> None:
    engines.rows = [None]
    with pytest.raises(ShutdownError):
        run(LONG, terminate, Shutdown.follow)
