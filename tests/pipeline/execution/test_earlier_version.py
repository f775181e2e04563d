"""Runs that the version before (d99554e) began are read, retried and finished by this one.

`earlier/` holds what that version left, with its bundled model: `finished`, a run in which one
image was broken and one missing, and `killed`, a run whose processes were killed, with one part
committed and some rows of another in the journal.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jobs import Engine
from jobs.cli.tables import status_text
from jobs.registry import find_model
from jobs.sdk.retry import restore_task
from pipeline import RunConfig, RunResult, failed_rows, retry, run, status

EARLIER = Path(__file__).with_name("earlier")
ROWS = 24
OURS = "gemma3_model.model.Gemma3ForConditionalGeneration"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy, as if the dataset and its results had been moved to another machine."""
    return Path(shutil.copytree(EARLIER, tmp_path / "moved"))


def config_of(folder: Path, name: str) -> RunConfig:
    """What the record says, with the places of this machine."""
    recorded = json.loads((folder / name / "_gemma3_batch/run.json").read_text())["config"]
    places = {"input": str(folder / "input"), "output": str(folder / name)}
    model = {**recorded["engine"], "model": find_model("demo").path}
    return RunConfig.model_validate({**recorded, **places, "engine": model})


def again(folder: Path, name: str, engine: Engine, *outcomes: str) -> RunResult:
    record = json.loads((folder / name / "_gemma3_batch/run.json").read_text())
    # One generate actor, which passes the requests on to the engine that is loaded already.
    config = config_of(folder, name).model_copy(update={"engine_replicas": 1})
    task = restore_task(record)
    if outcomes:
        return retry(config, task, outcomes, backend=engine.backend)
    return run(config, task, backend=engine.backend)


def test_a_finished_run_is_read(folder: Path) -> None:
    found = status(str(folder / "finished"))
    assert (found.units_done, found.units, found.rows_done, found.rows) == (4, 4, ROWS, ROWS)
    assert found.outcomes == {"ok": 22, "decode_error": 1, "missing_input": 1}
    assert found.last_rows is None
    assert "The last run" not in status_text(found)
    failed = [row for table in failed_rows(str(folder / "finished")) for row in table.to_pylist()]
    assert [row["outcome"] for row in failed] == ["decode_error", "missing_input"]


def test_a_killed_run_is_read(folder: Path) -> None:
    found = status(str(folder / "killed"))
    assert found.units_done == 1
    assert found.rows_done == 6
    assert found.rows_journalled > 0
    assert found.finished is None


@pytest.mark.timeout(300)
def test_a_killed_run_is_finished(folder: Path, warm_engine: Engine) -> None:
    (committed,) = (folder / "killed").glob("part-*")
    before, journalled = committed.read_bytes(), status(str(folder / "killed")).rows_journalled
    result = again(folder, "killed", warm_engine)
    assert result.new_rows == ROWS - 6 - journalled
    assert committed.read_bytes() == before
    rows = result.table(["truth", "caption", "outcome", "row_key"]).to_pylist()
    assert len({row["row_key"] for row in rows}) == ROWS
    whole = ds.dataset(folder / "finished").to_table(columns=["caption", "outcome", "row_key"])
    assert [{**row, "truth": None} for row in rows] == [
        {**row, "truth": None} for row in whole.to_pylist()
    ]
    inputs = [pq.read_table(folder / "input" / name) for name in ("a.parquet", "b.parquet")]
    truths = [truth for table in inputs for truth in table["truth"].to_pylist()]
    assert [row["truth"] for row in rows] == truths


@pytest.mark.timeout(300)
def test_a_finished_run_is_retried_and_then_done(folder: Path, warm_engine: Engine) -> None:
    shutil.copy(folder / "late.jpg", folder / "input")  # the image that was missing
    result = again(folder, "finished", warm_engine, "missing_input")
    assert (result.new_rows, result.model_class) == (1, OURS)
    assert result.outcomes == {"ok": 23, "decode_error": 1}
    row = result.table(["truth", "caption"]).to_pylist()[20]
    assert row["caption"] == row["truth"]
    assert again(folder, "finished", warm_engine).new_rows == 0
