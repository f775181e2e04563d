"""The README's example of a user's own job is run as written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from jobs.cli.job_file import read_job_file
from jobs.demo.dataset import write_dataset
from pipeline import Generation

README = Path(__file__).parents[2] / "README.md"
MOST_LINES = 25
ROWS = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example's module and its job file, with the bundled model, as a user writes them."""
    marked = README.read_text().split("<!-- tests/jobs/test_readme.py runs this -->")[1]
    module, file = (re.search(rf"```{kind}\n(.*?)```", marked, re.S) for kind in ("python", "yaml"))
    assert module
    assert file
    assert len([line for line in module[1].splitlines() if line.strip()]) <= MOST_LINES
    named = "model: /path/to/gemma-3-4b-it"
    assert named in file[1]
    (tmp_path / "count_words.py").write_text(module[1])
    (tmp_path / "count_words.yaml").write_text(file[1].replace(named, "model: demo"))
    return tmp_path


def test_a_job_of_ones_own_is_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)
    task = read_job_file("count_words.yaml").job.task()
    (request,) = task.prepare({"image": b"bytes"}).requests
    assert request.prompt == "Describe this image in one sentence."
    said = Generation("a red circle", prompt_tokens=1, output_tokens=3, finish_reason="stop")
    assert task.result(None, [said]).columns == {"words": 3}


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_job_of_ones_own_runs(folder: Path) -> None:
    write_dataset(folder / "images", ROWS, seed=9)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("gemma3-batch")), "run", "count_words.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{ROWS} rows ({ROWS} ok)" in done.stdout, done.stderr
    rows = ds.dataset(folder / "counts").to_table().to_pylist()
    assert [row["words"] for row in rows] == [len(row["truth"].split()) for row in rows]
