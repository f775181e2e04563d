"""The example of a user's own job is a task; that it runs is a recipe, for `make test-long`."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cli.job_file import read_job_file
from pipeline import Generation
from tests.docs.recipes import MODEL, recipes


def test_a_job_of_ones_own_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recipe,) = (recipe for recipe in recipes() if recipe.name == "own-job")
    for block in recipe.blocks:
        if block.role.startswith("file "):
            name = block.role.removeprefix("file ")
            (tmp_path / name).write_text(block.text.replace(MODEL, "demo"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    task = read_job_file("count_words.yaml").job.task()
    (request,) = task.prepare({"image": b"bytes"}).requests
    assert request.prompt == "Describe this image in one sentence."
    said = Generation("a red circle", prompt_tokens=1, output_tokens=3, finish_reason="stop")
    assert task.result(None, [said]).columns == {"words": 3}
