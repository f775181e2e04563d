"""The benchmark measures the real parts. No speed is asserted."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import pytest
from typer.testing import CliRunner

from jobs import Engine
from jobs.cli import app as cli
from jobs.cli import bench
from jobs.sdk.calls import run_job


def check(printed: str) -> None:
    for stage in ("render, one process", "generate, rendered beforehand", "the whole job"):
        (line,) = (line for line in printed.splitlines() if stage in line)
        rate = float(line.split("│")[2].replace(",", ""))
        assert rate > 0


def test_every_stage_is_measured(warm_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "run_job", partial(run_job, engine=warm_engine))
    done = CliRunner().invoke(cli.app, ["bench", "--rows", "8"])
    assert done.exit_code == 0, done.output
    check(done.stdout)


@pytest.mark.long
def test_every_stage_is_measured_by_the_command() -> None:
    """With engines of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "bench", "--rows", "8"],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stderr
    check(done.stdout)
