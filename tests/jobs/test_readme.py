"""The README's example of a task of one's own, run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from jobs.demo.dataset import write_dataset
from jobs.registry import find_model

README = Path(__file__).parents[2] / "README.md"
MOST_LINES = 25


@pytest.mark.timeout(300)
def test_a_task_of_ones_own(tmp_path: Path) -> None:
    marked = README.read_text().split("<!-- tests/jobs/test_readme.py runs this -->")[1]
    found = re.search(r"```python\n(.*?)```", marked, re.S)
    assert found
    script = found[1]
    assert len([line for line in script.splitlines() if line.strip()]) <= MOST_LINES
    model = find_model("demo")
    named = 'model="/path/to/gemma-3-4b-it"'
    assert named in script
    (tmp_path / "own.py").write_text(
        script.replace(named, f'model="{model.path}", dtype="{model.dtype}"')
    )
    write_dataset(tmp_path / "images", 20, seed=9)
    done = subprocess.run(
        [sys.executable, "own.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "{'ok': 20}", done.stderr
    rows = ds.dataset(tmp_path / "counts").to_table().to_pylist()
    assert [row["words"] for row in rows] == [len(row["truth"].split()) for row in rows]
