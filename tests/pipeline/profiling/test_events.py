"""Events of a process travel with the next rows that leave it, each once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipeline.profiling import events, stopwatch
from pipeline.profiling.collector import Collector
from pipeline.profiling.measures import Stretch
from pipeline.storage import backoff
from pipeline.storage.backoff import with_backoff


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    events.take()
    yield
    events.take()


def test_events_of_all_threads_travel_once() -> None:
    threads = [threading.Thread(target=events.note, args=("store_retry", 2)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events.note("image_refused", 0)
    (span,) = Stretch("parse").finished(3).spans
    assert span.events == {"store_retry": 16}
    (span,) = Stretch("parse").finished(3).spans
    assert span.events == {}


def test_the_drivers_own_come_with_what_it_did() -> None:
    collector = Collector()
    events.note("store_retry")
    assert collector.note_driver(5).events == {"store_retry": 1}
    assert collector.note_driver(5).events == {}


def test_those_of_the_run_before_in_this_process_are_not_this_runs() -> None:
    events.note("store_retry")
    with stopwatch.step("receipts"):
        pass
    span = Collector().note_driver(5)
    assert (span.events, span.seconds) == ({}, {})


def test_a_store_that_is_asked_again_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(backoff, "LONGEST_PAUSE_S", 0.01)
    answers = iter([ConnectionResetError(), TimeoutError(), None])

    def call() -> str:
        if (error := next(answers)) is not None:
            raise error
        return "done"

    assert with_backoff(call) == "done"
    assert events.take() == {"store_retry": 2}
