"""A dataset on the Hugging Face Hub by its id: configs and splits, and the commit that is read."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from jobs.demo.dataset import held_out_scenes, jpeg
from jobs.demo.phrases import caption
from pipeline import EngineConfig, RunConfig, UserError
from pipeline.execution import preparation
from pipeline.execution.preparation import check_run
from pipeline.output.extension import extended
from pipeline.output.run_record import claim
from pipeline.sources import HubChoice, Kind, Listing, list_input
from pipeline.storage.location import StorageOptions
from tests.hub import TOKEN, Hub
from tests.pipeline.fakes import FAKE, ColourTask

NAME = "us/many"
DATASET = f"hf://datasets/{NAME}"
TWO_CONFIGS = """---
license: mit
configs:
- config_name: en
  default: true
  data_files:
  - split: train
    path: english/*.parquet
  - split: test
    path: [english-test.parquet, more/*.csv]
- config_name: de
  data_dir: german
---
# A dataset
"""
NO_DEFAULT = "---\nconfigs:\n- config_name: en\n  data_files: a.parquet\n- config_name: de\n---\n"


def table(**columns: list[object]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


ONE = table(text=["hello"])
SHARDED = ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet")
LAYOUTS: dict[str, tuple[dict[str, bytes], HubChoice, tuple[Kind, list[str]]]] = {
    "all of it": (
        dict.fromkeys([*SHARDED, "data/test-00000-of-00001.parquet"], ONE),
        HubChoice(),
        (Kind.PARQUET, ["data/test-00000-of-00001.parquet", *SHARDED]),
    ),
    "a split of shards": (
        dict.fromkeys([*SHARDED, "data/test-00000-of-00001.parquet", "data/x.parquet"], ONE),
        HubChoice(split="train"),
        (Kind.PARQUET, [*SHARDED]),
    ),
    "a split by file names": (
        {"a/train.jsonl": b"{}", "a/dev_1.jsonl": b"{}", "testing.jsonl": b"{}"},
        HubChoice(split="test+validation"),
        (Kind.JSONL, ["a/dev_1.jsonl", "testing.jsonl"]),
    ),
    "a split by folders, with metadata of its images": (
        {"train/cat/0.jpg": b"x", "test/1.JPG": b"x", "train/metadata.jsonl": b"{}"},
        HubChoice(split="train"),
        (Kind.IMAGES, ["train/cat/0.jpg"]),
    ),
    "no split in any name": (
        {"a.tar": b"x", "b/c.tar": b"x"},
        HubChoice(config="default", split="train"),
        (Kind.WEBDATASET, ["a.tar", "b/c.tar"]),
    ),
    "the default config": (
        {"README.md": TWO_CONFIGS.encode(), "english/a.parquet": ONE, "german/b.parquet": ONE},
        HubChoice(),
        (Kind.PARQUET, ["english/a.parquet"]),
    ),
    "a split that the README names": (
        {"README.md": TWO_CONFIGS.encode(), "english/a.parquet": ONE, "more/c.csv": b"a,b\n1,2\n"},
        HubChoice(split="test"),
        (Kind.CSV, ["more/c.csv"]),
    ),
    "a config of a folder": (
        {"README.md": TWO_CONFIGS.encode(), "german/test.csv": b"x", "german/train.csv": b"x"},
        HubChoice(config="de", split="test"),
        (Kind.CSV, ["german/test.csv"]),
    ),
}


@dataclass(frozen=True)
class OnHub:
    """A dataset's folder on a running Hub, and how it is reached."""

    folder: Path
    url: str
    options: StorageOptions
    hub: Hub

    def write(self, files: Mapping[str, bytes]) -> None:
        for name, body in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(body)

    def listed(self, choice: HubChoice = HubChoice(), uri: str = DATASET) -> Listing:  # noqa: B008
        return list_input(uri, self.options, choice)

    def refused(self, choice: HubChoice = HubChoice(), uri: str = DATASET) -> str:  # noqa: B008
        with pytest.raises(UserError) as error:
            self.listed(choice, uri)
        assert "\n" not in str(error.value)
        return str(error.value)


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OnHub]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub, folder = Hub(), tmp_path / "hub"
    folder.mkdir()
    hub.add(NAME, folder)
    with hub.running() as url:
        yield OnHub(folder, url, {"hf": {"endpoint": url, "token": False}}, hub)


def paths(listing: Listing) -> tuple[Kind, list[str]]:
    return listing.kind, [file.path for file in listing.files]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_files_of_a_split_are_those_that_the_hub_shows(dataset: OnHub, layout: str) -> None:
    files, choice, expected = LAYOUTS[layout]
    dataset.write(files | {".gitattributes": b"* lfs"})
    assert paths(dataset.listed(choice)) == expected


def test_what_is_not_there_is_refused_with_what_is(dataset: OnHub) -> None:
    assert "has no data files" in dataset.refused()
    dataset.write(dict.fromkeys(SHARDED, ONE))
    assert dataset.refused(HubChoice(split="trian")).endswith(
        " has no split 'trian'; did you mean 'train'? it has train"
    )
    assert dataset.refused(HubChoice(config="de")).endswith(" has no configs; leave it out")
    dataset.write({"README.md": TWO_CONFIGS.encode()})
    assert dataset.refused(HubChoice(config="fr")).endswith(" has no config 'fr'; it has en, de")
    dataset.write({"README.md": NO_DEFAULT.encode()})
    assert dataset.refused().endswith(" has the configs en, de; name one (--config NAME)")
    dataset.write({"README.md": b"---\nconfigs: 7\n---\n"})
    assert "README.md cannot be understood: ValueError: Expected configs" in dataset.refused()


@pytest.mark.parametrize("uri", [f"{DATASET}/data", f"{DATASET}/*.parquet", "/tmp/in"])
def test_a_split_is_of_a_whole_dataset(dataset: OnHub, uri: str) -> None:
    assert dataset.refused(HubChoice(split="train"), uri).startswith(
        "split: 'train' is of a dataset on the Hub, and INPUT is "
    )


def test_a_repository_that_one_may_not_read_names_the_page_and_the_token(dataset: OnHub) -> None:
    dataset.write({"a.parquet": ONE, "README.md": b"# Terms"})
    repository = dataset.hub.repositories["datasets", NAME]
    repository.is_gated = True
    assert dataset.refused() == (
        f"INPUT {DATASET} is gated: accept its terms at {dataset.url}/datasets/{NAME}, and set "
        "HF_TOKEN to a token that may read it"
    )
    repository.is_gated, repository.is_private = False, True
    hidden = "does not exist, or is private: check its name, or set HF_TOKEN to a token that may"
    assert dataset.refused() == f"INPUT {DATASET} {hidden} read it"
    with_token = {"hf": {"endpoint": dataset.url, "token": TOKEN}}
    assert len(list_input(DATASET, with_token).files) == 1
    assert f"hf://datasets/us/no {hidden}" in dataset.refused(uri="hf://datasets/us/no")
    repository.is_private = False
    assert dataset.refused(uri=f"{DATASET}@v7") == (
        f"INPUT {DATASET}@v7 has no such revision: see {dataset.url}/datasets/{NAME}/tree/main"
    )


def test_one_commit_is_read_however_the_branch_moves(dataset: OnHub) -> None:
    dataset.write({"a.parquet": ONE})
    before = dataset.listed()
    dataset.write({"a.parquet": table(text=["changed"]), "b.parquet": ONE})
    assert pq.read_table(io.BytesIO((before.root / "a.parquet").read())).to_pylist() == [
        {"text": "hello"}
    ]
    now = dataset.listed()
    assert (len(now.files), now.commit == before.commit) == (2, False)
    assert dataset.listed(HubChoice(commit=before.commit)).root == before.root
    assert dataset.listed(HubChoice(commit="0" * 40)).root == now.root  # it is there no more
    assert dataset.listed(uri=f"{DATASET}@{before.commit}").commit == before.commit
    assert dataset.listed(uri=f"{DATASET}/*.parquet").commit == now.commit


def test_a_run_that_is_not_finished_stays_at_its_commit(
    dataset: OnHub, tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset.write({"a.parquet": table(image=["x.png"])})

    def checked(*, retries: bool = False, **more: str) -> preparation.CheckedRun:
        config = RunConfig(
            input=DATASET,
            output=str(tmp_path / "out"),
            engine=EngineConfig(model=str(gemma_folder)),
            storage_options=dataset.options,
            **more,
        )
        return check_run(config, ColourTask(), FAKE, retries=retries)

    first = checked()
    claim(first.output, first.record)
    extended(None, first.output, first.listing, first.source)
    dataset.write({"a.parquet": table(image=["y.png"]), "b.parquet": table(image=["z.png"])})
    again = checked()
    assert again.record["input_commit"] == first.record["input_commit"] == first.listing.commit
    assert again.listing.root == again.source.root == first.listing.root
    assert not again.changes
    monkeypatch.setattr(preparation, "committed_units", lambda plan: np.ones(len(plan), dtype=bool))
    later = checked()
    assert later.listing.commit != first.listing.commit
    assert later.changes is not None
    assert (len(later.changes.new), len(later.changes.changed)) == (1, 1)
    assert checked(retries=True).listing.commit == first.listing.commit
    dataset.write({"test.parquet": table(image=["x.png"])})
    with pytest.raises(UserError, match="was made from another INPUT"):
        checked(split="test")


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_split_is_captioned_by_command(dataset: OnHub, tmp_path: Path) -> None:
    """By the environment's `HF_ENDPOINT`, with the bundled model."""
    scenes = [*zip(range(6), held_out_scenes(5))]  # noqa: B905
    images = [{"bytes": jpeg(scene), "path": f"{number}.jpg"} for number, scene in scenes]
    dataset.write({"data/test.parquet": table(image=images), "data/train.parquet": ONE})
    dataset.write({"data/extra/notes.csv": b"a,b\n1,2\n"})
    unset = ("HF_HUB_OFFLINE", "RAY_ADDRESS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    out = tmp_path / "out"
    command = ["caption", DATASET, str(out), "--model", "demo", "--split", "test"]
    done = subprocess.run(
        [sys.executable, "-m", "jobs", *command],
        env=environment | {"HF_ENDPOINT": dataset.url},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = ds.dataset(out).to_table().to_pylist()
    assert [row["caption"] for row in rows] == [caption(scene) for _, scene in scenes]
    assert [row["image"]["path"] for row in rows] == [image["path"] for image in images]
    record = json.loads((out / "_gemma3_batch/run.json").read_text())
    assert record["input"] == f"{DATASET} split=test"
    assert record["input_commit"] == dataset.hub.repositories["datasets", NAME].head
