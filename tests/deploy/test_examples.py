"""The example files do what they say, on the bundled model in a warm engine.

That `ray job submit` runs such files is in `test_submit`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import Engine
from jobs.cli.job_file import read_job_file
from jobs.sdk.calls import run_job
from pipeline import RunResult
from tests.deploy import examples

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize("job", [*examples.CHECKS])
def test_an_example_file(
    job: str, warm_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA", str(examples.write(tmp_path)))
    monkeypatch.setenv("MODEL", "demo")

    def done() -> RunResult:
        file = read_job_file(str(DEPLOY / f"{job}.yaml"))
        return run_job(file.job, file.input, file.output, engine=warm_engine)

    assert (done().new_rows, done().new_rows) == (examples.ROWS, 0)
    examples.CHECKS[job](tmp_path)
