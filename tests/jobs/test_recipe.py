"""The README's recipe, captions only where there are none, is run as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jobs.demo.dataset import write_dataset

README = Path(__file__).parents[2] / "README.md"
ROWS = 40
LANGUAGES = ("en", "fr", "en", "xx")


def photos(folder: Path) -> pa.Table:
    """Drawings in three languages, of which each seventh has a caption."""
    table = pq.read_table(write_dataset(folder / "drawn", ROWS, seed=11))
    captions = ["as it was" if n % 7 == 0 else "" if n % 2 else None for n in range(ROWS)]
    languages = [LANGUAGES[n % 4] for n in range(ROWS)]
    return table.append_column("caption", [captions]).append_column("language", [languages])


@pytest.mark.timeout(300)
def test_captions_are_made_where_there_are_none(tmp_path: Path) -> None:
    marked = README.read_text().split("<!-- tests/jobs/test_recipe.py runs this -->")[1]
    found = (re.search(rf"```{kind}\n(.*?)```", marked, re.S) for kind in ("python", "bash"))
    script, command = (block[1] for block in found if block)
    assert "/path/to/gemma-3-4b-it" in command
    table = photos(tmp_path)
    pq.write_table(table, tmp_path / "photos.parquet")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    places = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", command.replace("/path/to/gemma-3-4b-it", "demo")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": places},
    )
    assert done.returncode == 0, done.stderr

    rows = ds.dataset(tmp_path / "captioned").to_table().to_pylist()
    taken = [row for row in table.to_pylist() if row["language"] != "xx"]
    assert [row["name"] for row in rows] == [row["name"] for row in taken]
    kept = [row["outcome"] == "kept" for row in rows]
    assert kept == [row["caption"] == "as it was" for row in taken]
    english = [row for row in rows if row["language"] == "en" and row["outcome"] != "kept"]
    assert sum(row["caption"] == row["truth"] for row in english) >= 0.9 * len(english)
    french = [row for row in rows if row["language"] == "fr" and row["outcome"] != "kept"]
    asked = {row["prompt_tokens"] for row in english}, {row["prompt_tokens"] for row in french}
    assert asked[0] != asked[1]
    for row in rows:
        if row["outcome"] == "kept":
            assert (row["caption"], row["prompt_tokens"]) == ("as it was", None)
