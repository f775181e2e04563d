"""The example job files and the crontab line."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cli.job_file import read_job_file

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize("job", ["caption", "translate", "moderate"])
def test_the_example_files_are_job_files(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.setenv("MODEL", "demo")
    read = read_job_file(str(DEPLOY / f"{job}.yaml"))
    assert type(read.job.options).__name__ == f"{job.title()}Options"


def test_the_crontab_line_runs_an_example() -> None:
    lines = (DEPLOY / "nightly-translation.cron").read_text().splitlines()
    (line,) = (line for line in lines if not line.startswith("#"))
    *times, command = line.split(" ", 5)
    assert len(times) == 5
    assert "gemma3-batch run /opt/gemma3-batch/deploy/translate.yaml" in command
