"""The benchmark measures the real parts. No speed is asserted."""

from __future__ import annotations

import os
import subprocess
import sys


def test_every_stage_is_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "bench", "--rows", "8"],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stderr
    for stage in ("render, one process", "generate, rendered beforehand", "the whole job"):
        (line,) = (line for line in done.stdout.splitlines() if stage in line)
        rate = float(line.split("│")[2].replace(",", ""))
        assert rate > 0
