"""A dataset on the Hugging Face Hub as INPUT: its parquet files, and its images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from pipeline import UserError
from pipeline.sources import list_input
from pipeline.storage.location import StorageOptions
from tests import hub
from tests.pipeline.sample_images import encoded, plain

COLOURS = [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
DATASET = f"hf://datasets/{hub.REPO}"


@pytest.fixture
def options(tmp_path: Path) -> Iterator[StorageOptions]:
    """Images, and a table that names them and one that is not there."""
    folder = tmp_path / "hub"
    (folder / "images").mkdir(parents=True)
    for number, colour in enumerate(COLOURS):
        (folder / f"images/{number}.png").write_bytes(encoded(plain(colour), "PNG"))
    names = [f"../images/{number}.png" for number in range(4)]
    (folder / "data").mkdir()
    pq.write_table(pa.table({"image": names}), folder / "data/train.parquet")
    with hub.serving(folder) as url:
        yield {"hf": {"endpoint": url, "token": False}}


def rows_of(path: str, folder: Path, model: Path, options: StorageOptions) -> list[dict[str, Any]]:
    """A run in processes of its own: those of the tests are told that there is no Hub."""
    settings = {
        "input": f"{DATASET}{path}",
        "output": str(folder / "out"),
        "engine": {"model": str(model)},
        "storage_options": options,
    }
    unset = ("HF_HUB_OFFLINE", "RAY_ADDRESS")
    subprocess.run(
        [sys.executable, "-m", "tests.chaos.attempt", json.dumps(settings)],
        env={name: value for name, value in os.environ.items() if name not in unset},
        check=True,
        timeout=300,
    )
    rows: list[dict[str, Any]] = ds.dataset(folder / "out").to_table().to_pylist()
    return rows


@pytest.mark.long
def test_its_images_are_an_input(
    options: StorageOptions, tmp_path: Path, gemma_folder: Path
) -> None:
    rows = rows_of("/images/*.png", tmp_path, gemma_folder, options)
    assert [row["path"] for row in rows] == ["0.png", "1.png", "2.png"]
    assert [row["colour"] for row in rows] == [[*colour] for colour in COLOURS]


@pytest.mark.long
def test_its_tables_are_an_input(
    options: StorageOptions, tmp_path: Path, gemma_folder: Path
) -> None:
    rows = rows_of("@main/data", tmp_path, gemma_folder, options)
    assert [row["outcome"] for row in rows] == ["ok", "ok", "ok", "missing_input"]
    assert [row["colour"] for row in rows] == [*([*colour] for colour in COLOURS), None]


def test_what_was_added_since_is_listed(
    options: StorageOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process, whose filesystem remembers what it listed."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert len(list_input(f"{DATASET}/images", options).files) == 3
    (tmp_path / "hub/images/3.png").write_bytes(encoded(plain((1, 1, 1)), "PNG"))
    assert len(list_input(f"{DATASET}/images", options).files) == 4


def test_what_is_not_there_is_said_in_one_line(
    options: StorageOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(UserError, match=rf"^INPUT {DATASET}/absent does not exist"):
        list_input(f"{DATASET}/absent", options)
    with pytest.raises(UserError, match=r"^INPUT hf://datasets/us/nothing does not exist"):
        list_input("hf://datasets/us/nothing", options)
