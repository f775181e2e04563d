"""The options that take a part of the data: by one name everywhere, and not for rows in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs import caption
from jobs.cli.job_file import read_job_file
from jobs.cli.tables import status_text
from pipeline import Status, UserError

SLICE: dict[str, Any] = {"where": "lang = 'en' and n > 3", "limit": 5, "missing": "caption"}


def test_a_job_file_has_them(tmp_path: Path) -> None:
    lines = [f"{name}: {value}" for name, value in {**SLICE, "shuffle": "yes"}.items()]
    head = ["job: caption", "input: in", "output: out", "model: demo"]
    (tmp_path / "job.yaml").write_text("\n".join([*head, *lines]))
    config = read_job_file(str(tmp_path / "job.yaml")).job.run_config("in", "out")
    assert {name: getattr(config, name) for name in SLICE} == SLICE
    assert config.shuffle


@pytest.mark.parametrize("name", SLICE)
def test_rows_in_memory_come_back_whole(name: str) -> None:
    with pytest.raises(UserError, match=f"{name}: is for files, and for data with an output"):
        caption([b"an image"], model="demo", **{name: SLICE[name]})


def test_the_status_shows_them() -> None:
    counts: dict[str, Any] = {"units": 1, "units_done": 1, "rows": 5, "rows_done": 5}
    status = Status(
        output="out",
        task="caption",
        **counts,
        rows_journalled=0,
        outcomes={"ok": 3, "kept": 2},
        duplicates=0,
        skipped=(),
        started="then",
        finished="now",
        slice={**SLICE, "sample_seed": 7},
    )
    assert "3 ok, 2 kept" in status_text(status)
    assert status_text(status).endswith(
        "Slice of INPUT: where lang = 'en' and n > 3, limit 5, missing caption, sample seed 7"
    )
