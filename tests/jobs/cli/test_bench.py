"""The benchmark measures the real parts. No speed is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs import Engine
from jobs.cli import app as cli
from jobs.cli.bench import measure, offline, rendered
from jobs.cli.bench.offline import Answered
from jobs.cli.bench.report import Report, Side
from jobs.cli.bench.workload import Workload, synthetic
from jobs.sdk.calls import run_job
from pipeline import RunError
from pipeline.contract.config import EngineConfig
from pipeline.engine.renderer import GemmaRenderer
from pipeline.profiling.profile import Profile

ROWS = 8


def check(found: dict[str, Any], *sides: str) -> None:
    """All sides answered the same rows: greedily, they also give as many tokens."""
    assert found["outcomes"] == {"ok": ROWS}
    assert [*found["rows_per_second"]] == ["render", *sides]
    assert all(min(rates) > 0 for rates in found["rows_per_second"].values())
    per_row = {
        side: found["output_tokens_per_second"][side][0] / found["rows_per_second"][side][0]
        for side in sides
    }
    assert per_row == dict.fromkeys(sides, pytest.approx(per_row["job"]))
    rates = found["rows_per_second"]
    ratios = {side: [rates["job"][0] / rates[side][0]] for side in sides if side != "job"}
    assert found["job_by_side"] == ratios


@pytest.mark.long
def test_every_side_is_measured(warm_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "run_job", partial(run_job, engine=warm_engine))
    done = CliRunner().invoke(
        cli.app, ["bench", "--rows", str(ROWS), "--compare", "--json"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    print(done.stdout)
    found = json.loads(done.stdout)
    check(found, "engine", "offline", "offline_rows", "job")
    assert Profile.from_json(found["profile"]) is not None


@pytest.mark.long
@pytest.mark.parametrize("job", ["caption", "translate", "moderate"])
def test_every_side_is_measured_by_the_command(job: str) -> None:
    """With engines of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "bench", "--job", job, "--rows", str(ROWS), "--compare"],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stderr
    for title in ("render, one process", "our engine", "vLLM's LLM.generate", "the whole job"):
        (line,) = (line for line in done.stdout.splitlines() if title in line)
        assert float(line.split("│")[2].replace(",", "")) > 0


@pytest.mark.parametrize("job", ["caption", "translate", "moderate"])
def test_rows_are_rendered_as_the_job_does(job: str, tmp_path: Path) -> None:
    workload = synthetic(job, {"model": "demo"}, tmp_path / "in", rows=5, input_tokens=None)
    rows = rendered.render(workload, threads=2)
    requests = 7 if job == "moderate" else 1  # the bundled model's policies
    assert [len(row) for row in rows.rows] == [requests] * 5
    assert all(bool(each.prompt.images) is (job != "translate") for each in rows.requests)
    assert len({tuple(each.prompt.token_ids) for each in rows.requests}) == (
        1 if job == "caption" else len(rows.requests) if job == "translate" else requests
    )
    again = synthetic(job, {"model": "demo"}, tmp_path / "again", rows=5, input_tokens=None)
    assert again.options == Workload.from_json(workload.to_json()).options


def test_rows_left_over_are_rendered_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = synthetic("translate", {"model": "demo"}, tmp_path / "in", rows=7, input_tokens=None)
    at_once = rendered.render(workload)
    monkeypatch.setattr(rendered, "MEASURED_SECONDS", 0)
    in_threads = rendered.render(workload, threads=3)
    ids = [[each.prompt.token_ids for each in done.requests] for done in (at_once, in_threads)]
    assert ids[0] == ids[1]


def test_texts_have_the_length_that_was_asked_for(tmp_path: Path) -> None:
    synthetic("translate", {"model": "demo"}, tmp_path / "in", rows=4, input_tokens=60)
    count = GemmaRenderer(EngineConfig(model="demo")).count
    texts = pq.read_table(tmp_path / "in")["text"].to_pylist()
    assert all(40 <= count(text) <= 60 for text in texts)


def test_a_report_of_several_repetitions() -> None:
    report = Report(job="caption", model="demo", rows=10)
    for seconds, rate in ((2.0, 4.5), (4.0, 2.0), (1.0, 9.8)):
        report.add(Side.RENDER, rows=100)
        answered = Answered(rows=10, output_tokens=50, seconds=seconds)
        report.add_answered(Side.OFFLINE, answered)
        report.add(Side.JOB, rows=rate, tokens=5 * rate)
    assert report.ratios == {Side.OFFLINE: pytest.approx([0.9, 0.8, 0.98])}
    cells = [[*column.cells] for column in report.table().columns]
    assert cells[1] == ["100.0 (100.0 to 100.0)", "5.0 (2.5 to 10.0)", "4.5 (2.0 to 9.8)"]
    assert cells[3] == ["", "0.900 (0.800 to 0.980)", ""]
    assert report.to_json()["output_tokens_per_second"]["offline"] == [25, 12.5, 50]
    assert "render" not in report.to_json()["output_tokens_per_second"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--option", "max_tokens"], "option: 'max_tokens' should be NAME=VALUE"),
        (["--option", "max_tokenz=3"], "max_tokenz"),
        (["--job", "captoin"], "did you mean 'caption'?"),
        (["--model", "/nowhere"], "/nowhere"),
        (["--option", "limit=3"], "limit: bench measures all rows that it makes"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(cli.app, ["bench", *arguments])
    assert done.exit_code == 2, done.output
    assert message in done.stderr


def test_an_engine_that_does_not_start_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "sys", type("sys", (), {"executable": "false", "path": []}))
    with (
        offline.offline_process(Workload(job="caption", options={}, input="in")) as process,
        pytest.raises(RunError, match="vLLM's offline class failed"),
    ):
        process.wait_until_ready()
