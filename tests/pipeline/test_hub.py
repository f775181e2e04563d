"""A dataset on the Hugging Face Hub as INPUT: its parquet files, and its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import EngineConfig, RunConfig, UserError, run
from pipeline.sources import list_input
from pipeline.storage import StorageOptions
from tests import hub
from tests.pipeline.fakes import FAKE, ColourTask
from tests.pipeline.pictures import encoded, plain

COLOURS = [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
DATASET = f"hf://datasets/{hub.REPO}"


@pytest.fixture
def options(tmp_path: Path) -> Iterator[StorageOptions]:
    """Pictures, and a table that names them and one that is not there."""
    folder = tmp_path / "hub"
    (folder / "pictures").mkdir(parents=True)
    for number, colour in enumerate(COLOURS):
        (folder / f"pictures/{number}.png").write_bytes(encoded(plain(colour), "PNG"))
    names = [f"../pictures/{number}.png" for number in range(4)]
    (folder / "data").mkdir()
    pq.write_table(pa.table({"image": names}), folder / "data/train.parquet")
    with hub.serving(folder) as url:
        yield {"hf": {"endpoint": url, "token": False}}


def wanted(uri: str, output: Path, model: Path, options: StorageOptions) -> RunConfig:
    engine = EngineConfig(model=str(model))
    return RunConfig(input=uri, output=str(output), engine=engine, storage_options=options)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("path", ["pictures", "pictures/*.png"])
def test_its_pictures_are_an_input(
    options: StorageOptions, tmp_path: Path, gemma_folder: Path, path: str
) -> None:
    config = wanted(f"{DATASET}/{path}", tmp_path / "out", gemma_folder, options)
    table = run(config, ColourTask(), backend=FAKE).table()
    assert table["path"].to_pylist() == ["0.png", "1.png", "2.png"]
    assert table["colour"].to_pylist() == [[*colour] for colour in COLOURS]
    assert run(config, ColourTask(), backend=FAKE).new_rows == 0


@pytest.mark.usefixtures("ray_cluster")
def test_its_tables_are_an_input(
    options: StorageOptions, tmp_path: Path, gemma_folder: Path
) -> None:
    config = wanted(f"{DATASET}@main/data", tmp_path / "out", gemma_folder, options)
    table = run(config, ColourTask(), backend=FAKE).table()
    assert table["outcome"].to_pylist() == ["ok", "ok", "ok", "missing_input"]
    assert table["colour"].to_pylist() == [*([*colour] for colour in COLOURS), None]


def test_what_is_not_there_is_said_in_one_line(options: StorageOptions) -> None:
    with pytest.raises(UserError, match=rf"^INPUT {DATASET}/absent does not exist"):
        list_input(f"{DATASET}/absent", options)
    with pytest.raises(UserError, match=r"^INPUT hf://datasets/us/nothing does not exist"):
        list_input("hf://datasets/us/nothing", options)
