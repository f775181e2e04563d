"""What a retry takes from the record of a run."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.registry import JOBS
from jobs.sdk import retry as sdk
from jobs.sdk.assembly import configure
from pipeline import RunConfig
from pipeline.execution.preparation import check_run
from pipeline.output.run_record import claim
from tests.pipeline.fakes import FAKE


def test_a_relative_input_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project/in").mkdir(parents=True)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "project/in/a.parquet")
    monkeypatch.chdir(tmp_path / "project")
    job = configure(JOBS["translate"], {"model": "demo", "to": "de", "source": "en"})
    run = check_run(job.run_config("in", "out"), job.task(), FAKE)
    claim(run.output, run.record)
    given: list[RunConfig] = []
    monkeypatch.setattr(sdk, "retry", lambda config, *_, **__: given.append(config))
    monkeypatch.chdir(tmp_path)
    sdk.retry_rows("project/out", ["decode_error"])
    (config,) = given
    assert config.input == f"{tmp_path}/project/in"
    again = check_run(config, job.task(), FAKE, retries=True)
    assert again.record["input"] == run.record["input"]
