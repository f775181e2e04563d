"""Whole runs on Ray with a server as the engine."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline import EngineConfig, RunConfig, RunError, UserError, retry, run
from pipeline.engine.endpoint import served
from tests.openai_server import CARD, MODEL, Server, free_port, refusing, serving
from tests.pipeline.execution.test_run import colours_dataset, read_back
from tests.pipeline.fakes import ColourTask

KEY = "sk-a-key-of-the-tests"

pytestmark = pytest.mark.usefixtures("ray_cluster")


def config(folder: Path, url: str, **fields: Any) -> RunConfig:
    engine = EngineConfig(model=MODEL, endpoint=url, max_num_seqs=8, **fields)
    return RunConfig(
        input=str(folder / "in"), output=str(folder / "out"), engine=engine, unit_rows=40
    )


def shown(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_run_is_continued_under_another_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMMA3_BATCH_API_KEY", KEY)
    monkeypatch.setattr(served, "TRIES", 1)
    records = colours_dataset(tmp_path / "in", 120, bad_share=0.1)
    for record in records:  # no server calls this one poison
        if record["outcome"] == "engine_error":
            record.update(outcome="ok", colour=[0, 0, 0])
    answered = 0

    def note() -> None:
        nonlocal answered
        answered += 1
        if answered == 60:
            server.always = refusing(429, "come tomorrow", Retry_After="86400")

    console = Console(file=io.StringIO(), width=200)
    server = Server(key=KEY, seconds=0.01, answered=note)
    with serving(server) as url, pytest.raises(RunError, match="come tomorrow"):
        run(config(tmp_path, url), ColourTask(), console=console)
    done = {path.name for path in (tmp_path / "out").glob("part-*")}
    assert len(done) < 3
    with serving(again := Server(key=KEY)) as other:
        assert other != url
        result = run(config(tmp_path, other), ColourTask(), console=console)
    due = sum(record["outcome"] == "ok" for record in records)
    assert 0 < len(again.seen) < due, "what was finished is not asked for again"
    assert result.model_class == "gemma, at an endpoint"
    table = read_back(tmp_path / "out")
    for name in ("n", "outcome", "colour"):
        assert table[name].to_pylist() == [record[name] for record in records]
    assert {*table["prompt_tokens"].to_pylist()} == {7, None}
    written = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert written
    assert not any(KEY.encode() in body for body in written)
    assert KEY not in shown(console)
    record = json.loads((tmp_path / "out/_gemma3_batch/run.json").read_text())
    assert (record["backend"], record["model"]["identity"]) == (
        "endpoint",
        "served:gemma (/models/gemma)",
    )


def test_another_model_is_refused_and_failed_rows_are_done_again(tmp_path: Path) -> None:
    records = colours_dataset(tmp_path / "in", 40)
    with serving(server := Server()) as url:
        server.faults.extend([refusing(400, "not this one")] * 3)
        result = run(config(tmp_path, url), ColourTask())
        assert result.outcomes == {"ok": 37, "engine_error": 3}
        kept = json.loads((tmp_path / "out/_gemma3_batch/run.json").read_text())["config"]
        fixed = retry(RunConfig.model_validate(kept), ColourTask(), ["engine_error"])
        assert fixed.outcomes == {"ok": 40}
        table = read_back(tmp_path / "out")
        assert table["colour"].to_pylist() == [record["colour"] for record in records]
        server.models = [{**CARD, "root": "/models/other"}]
        with pytest.raises(UserError, match=r"model: 'served:gemma \(/models/gemma\)', now "):
            run(config(tmp_path, url), ColourTask())
        server.models = [{"id": MODEL}]  # it does not say what it is
        with pytest.raises(UserError, match="model: 'served:gemma "):
            run(config(tmp_path, url), ColourTask())


def test_nothing_is_written_for_a_server_that_is_not_there(tmp_path: Path) -> None:
    colours_dataset(tmp_path / "in", 8)
    with pytest.raises(UserError, match="does not answer"):
        run(config(tmp_path, f"http://127.0.0.1:{free_port()}/v1"), ColourTask())
    assert not (tmp_path / "out").exists()
