"""What the driver tells of what it hears."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping

import pytest

from pipeline.metrics import instruments, table
from pipeline.metrics.instruments import Instruments
from pipeline.metrics.labels import RunLabels
from pipeline.metrics.of_engine import EngineMetrics
from pipeline.metrics.of_run import RunMetrics
from pipeline.metrics.table import Kind, Metric
from pipeline.profiling.measures import EngineSlice, Measures, Span

LABELS = RunLabels(run="r", task="caption")
Told = defaultdict[str, dict[tuple[str, ...], float]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What is told, by metric and the values of the labels that are not of every metric."""
    values: Told = defaultdict(dict)

    def tell(
        self: Instruments, metric: Metric, value: float, tags: Mapping[str, str] | None = None
    ) -> None:
        key = tuple((tags or {}).values())
        before = values[metric.name].get(key, 0.0)
        values[metric.name][key] = value if metric.kind is Kind.GAUGE else before + value
        assert {*self._tags, *(tags or {})} == {*metric.labels}

    monkeypatch.setattr(Instruments, "tell", tell)
    return values


def test_rows_add_up_and_what_is_left_goes_down(told: Told) -> None:
    metrics = RunMetrics(LABELS, rows=100, done=10)
    metrics.finished({"ok": 30, "refused": 2}, 640, 64)
    metrics.tell()
    metrics.skip(8)
    metrics.finished({"ok": 10}, 200, 20)
    metrics.tell()
    metrics.tell()
    assert told[table.ROWS.name] == {("ok",): 40, ("refused",): 2}
    assert told[table.ROWS_LEFT.name] == {(): 40}
    assert told[table.ROWS_PLANNED.name] == {(): 100}
    assert (told[table.PROMPT_TOKENS.name], told[table.OUTPUT_TOKENS.name]) == ({(): 840}, {(): 84})


def test_what_was_measured_is_told_by_stage(told: Told) -> None:
    metrics = RunMetrics(LABELS, rows=100)
    spans = (
        Span("read", 0.0, 1.0, 8, {"read": 0.5, "pack": 0.25}, events={"store_retry": 2}),
        Span("render", 3.0, 4.0, 8, {"decode": 1.0}, events={"image_refused": 3}),
        Span("generate", 6.0, 16.0, 8, {}, events={"engine_restart": 1}),
        Span("parse", 15.5, 17.0, 8, {"parse": 0.5}),
        Span("journal", 17.0, 17.5, 8, {"journal": 0.5}, events={"store_retry": 1}),
    )
    metrics.measured(Measures(spans=spans))
    metrics.measured(Measures(spans=(Span("commit", 20.0, 20.5, 100, {"commit": 0.5}),)))
    metrics.measured(Measures(spans=(Span("driver", 0.0, 20.5, 8, {"receipts": 0.1}),)))
    metrics.expect({"read": 2, "render": 4})
    metrics.happened(table.UNITS)
    metrics.tell()
    assert told[table.STAGE_ROWS.name]["generate",] == 8
    assert told[table.STAGE_SECONDS.name]["read", "pack"] == 0.25
    assert told[table.STAGE_SECONDS.name]["driver", "receipts"] == 0.1
    assert told[table.ROW_SECONDS.name] == {
        ("read", "inside"): 8.0,
        ("render", "inside"): 8.0,
        ("generate", "inside"): 80.0,
        ("parse", "inside"): 12.0,
        ("journal", "inside"): 4.0,
        ("commit", "inside"): 50.0,
        ("render", "before"): 16.0,
        ("generate", "before"): 16.0,
        ("parse", "before"): 0.0,  # another machine's clock is behind
        ("journal", "before"): 0.0,
    }
    assert told[table.COMMIT_SECONDS.name] == {(): 0.5}
    assert told[table.STORE_RETRIES.name] == {("read",): 2, ("journal",): 1}
    assert told[table.IMAGES_REFUSED.name] == {(): 3}
    assert told[table.ENGINE_RESTARTS.name] == {(): 1}
    assert told[table.WORKERS.name] == {("read",): 2, ("render",): 4}
    assert told[table.UNITS.name] == {(): 1}


def test_engines_add_up_in_the_driver_and_tell_now_in_their_actor(told: Told) -> None:
    piece = EngineSlice(
        began=10.0,
        ended=12.0,
        in_flight=0.0,
        empty=0.0,
        running=32.0,
        waiting=8.0,
        slots=16,
        steps=7,
        busy=0.5,
        queued=240.0,
        prompt_tokens=500,
        cached_tokens=125,
    )
    EngineMetrics(LABELS, "0a1b2c3d").tell(piece)
    metrics = RunMetrics(LABELS, rows=1)
    metrics.measured(Measures(slices=(piece, piece)))
    metrics.tell()
    assert told[table.ENGINE_RUNNING.name] == {(): 16}
    assert told[table.ENGINE_WAITING.name] == {(): 4}
    assert told[table.ENGINE_QUEUED.name] == {(): 120}
    assert told[table.ENGINE_LOOP_BUSY.name] == {(): 0.25}
    assert told[table.ENGINE_SLOTS.name] == {(): 16}
    assert told[table.ENGINE_STEPS.name] == {(): 14}
    assert told[table.PREFIX_CACHE_QUERIES.name] == {(): 1000}
    assert told[table.PREFIX_CACHE_HITS.name] == {(): 250}


def test_gauges_are_told_again_while_nothing_happens(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.metrics.of_run.TELL_S", 0.01)
    with RunMetrics(LABELS, rows=3) as metrics:
        until = time.monotonic() + 10
        while not told[table.ROWS_LEFT.name] and time.monotonic() < until:
            time.sleep(0.01)
        assert told[table.ROWS_LEFT.name] == {(): 3}
        metrics.finished({"ok": 3}, 0, 0)
    assert told[table.ROWS_LEFT.name] == {(): 0}
    assert told[table.ROWS.name] == {("ok",): 3}


def test_without_ray_nothing_is_told_and_nothing_fails() -> None:
    source = (
        "from pipeline.metrics.instruments import Instruments\n"
        "from pipeline.metrics.table import TABLE\n"
        "made = Instruments({'run': 'r', 'task': 't'})\n"
        "for metric in TABLE:\n"
        "    made.tell(metric, 1.0, dict.fromkeys(metric.labels[2:], 'x'))\n"
        "print(made._made)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("{}\n", "")


def test_what_ray_refuses_ends_the_metrics_not_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(instruments, "_is_connected", lambda: True)

    def refuse(metric: Metric) -> object:
        raise ValueError(f"{metric.name}: no such thing")

    monkeypatch.setattr(instruments, "_instrument", refuse)
    made = Instruments(LABELS.as_tags())
    for _ in range(3):
        made.tell(table.ROWS, 1.0, {"outcome": "ok"})
    assert [record.message for record in caplog.records] == ["metrics are off from now on"]
