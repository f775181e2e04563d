"""An OUTPUT on the Hub: what is missing there is uploaded, once, with a card of what made it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
import yaml
from huggingface_hub import constants
from typer.testing import CliRunner

from jobs import push
from jobs.cli.app import app
from pipeline import EngineConfig, RunConfig, RunError, UserError
from pipeline.engine.checkpoint import open_checkpoint
from pipeline.output.commit import NewParts, PatchedParts
from pipeline.output.extension import extended
from pipeline.output.formats import FORMATS
from pipeline.output.hub import push as push_module
from pipeline.output.hub.card import MARK
from pipeline.output.hub.push import Pushed
from pipeline.output.hub.target import target_of
from pipeline.output.journal import OF_RETRIES, Journal
from pipeline.output.plan import Plan
from pipeline.output.run_record import Record, claim, describe_run, finish
from pipeline.sources import list_input
from pipeline.sources.units import Work
from pipeline.storage.location import Location, locate
from tests.hub import TOKEN, Hub
from tests.pipeline.fakes import ColourTask
from tests.pipeline.output.samples import RESULTS, Input, entries, failed, fill, source
from tests.stores import new_folder

STORES = pytest.mark.parametrize("output", ["disk", "s3"], indirect=True)

__all__ = ["source"]
TARGET = "hf://datasets/us/answers"
LARGE = 1000
"""Bytes from which the tests' Hub wants Git LFS."""


@dataclass
class Online:
    """A Hub, and how it is reached."""

    hub: Hub
    options: dict[str, dict[str, Any]]
    folder: Path

    def push(self, output: Location, target: str = TARGET, **more: Any) -> Pushed:
        return push(str(output), target, storage_options=self.options, **more)

    def files(self, name: str = "us/answers") -> dict[str, bytes]:
        folder = self.hub.repositories["datasets", name].folder
        paths = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    def writes(self) -> list[str]:
        """What was sent since it was asked last."""
        calls = [line for line in self.hub.log if "/commit/" in line or line.startswith("PUT")]
        self.hub.log.clear()
        return [line.partition("/")[0].strip() for line in calls]


@pytest.fixture
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty OUTPUT: on a disk, unless a test names another store."""
    if hasattr(request, "param"):
        return new_folder(request, tmp_path / "out")
    return locate(str(tmp_path / "out"))


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Online]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the tests' Hub has none
    hub = Hub(inline_bytes=LARGE, new=tmp_path / "hub")
    with hub.running() as url:
        yield Online(hub, {"hf": {"endpoint": url, "token": TOKEN}}, tmp_path / "hub")


@dataclass
class Run:
    """A run of two units, of which some are committed."""

    output: Location
    plan: Plan
    record: Record
    source: Input

    def commit(self, index: int, *failing: int) -> None:
        unit = self.plan.unit(index)
        journal = Journal(self.output, RESULTS)
        if failing:
            good = [row for row in range(unit.rows) if row not in failing]
            journal.append(unit.id, entries(good))
            journal.append(unit.id, failed([*failing]))
        else:
            fill(journal, unit)
        parts = NewParts(journal=journal, source=self.source.source, run=self.record)
        parts.commit(Work(unit))

    def fix(self, index: int, *positions: int) -> None:
        unit = self.plan.unit(index)
        parts = PatchedParts(journal=Journal(self.output, RESULTS, OF_RETRIES), run=self.record)
        parts.journal.append(unit.id, entries([*positions], "fixed"))
        parts.commit(Work(unit, positions))


def begin(output: Location, source: Input, model: Path, form: str = "parquet") -> Run:
    config = RunConfig(
        input="s3://secret-bucket/in",
        output="/home/someone/out",
        engine=EngineConfig(model=str(model)),
        output_format=form,
    )
    record = describe_run(
        config, ColourTask(prompt="Which `colour`?"), open_checkpoint(str(model)), "fake"
    )
    claim(output, record)
    listing = list_input(source.source.root.path)
    plan = extended(None, output, listing, source.source, suffix=FORMATS[form].suffix)
    return Run(output, plan, record, source)


@pytest.fixture
def finished(output: Location, source: Input, gemma_folder: Path) -> Run:
    """A run that is finished, with two failures in its first part."""
    done = begin(output, source, gemma_folder)
    done.commit(0, 3, 7)
    done.commit(1)
    finish(output, done.record, {"rows": 20})
    return done


@STORES
def test_the_parts_go_up_once_in_one_commit(finished: Run, online: Online) -> None:
    done = online.push(finished.output)
    names = [finished.plan.unit(index).part for index in (0, 1)]
    assert (done.parts, done.uploaded, done.commits, done.keeps_card) == (2, 2, 1, False)
    assert done.url.endswith("/datasets/us/answers")
    files = online.files()
    assert sorted(files) == ["README.md", *(f"data/{name}" for name in names), "gemma3_batch.json"]
    for name in names:
        assert files[f"data/{name}"] == (finished.output / name).read()
    assert online.writes().count("POST") == 1
    again = online.push(finished.output)
    assert (again.parts, again.uploaded, again.commits) == (2, 0, 0)
    assert online.writes() == []


def test_what_a_retry_replaced_goes_up_and_what_was_dropped_goes(
    finished: Run, online: Online
) -> None:
    online.push(finished.output)
    before = online.files()
    finished.fix(0, 3, 7)
    repository = online.hub.repositories["datasets", "us/answers"]
    repository.write("data/part-00000009-dropped.parquet", b"of a unit that is obsolete")
    name, other = (finished.plan.unit(index).part for index in (0, 1))
    repository.write(f"data/{other}", bytes(len(before[f"data/{other}"])))  # of the same size
    done = online.push(finished.output)
    assert (done.uploaded, done.removed, done.commits) == (2, 1, 1)
    files = online.files()
    assert files[f"data/{other}"] == before[f"data/{other}"]
    assert files.keys() == before.keys()
    assert files[f"data/{name}"] == (finished.output / name).read() != before[f"data/{name}"]
    assert "| `ok` | 20 |" in files["README.md"].decode()


def test_a_push_that_is_stopped_is_continued(
    finished: Run, online: Online, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One part a commit; the second one is not made."""
    monkeypatch.setattr(push_module, "COMMIT_PARTS", 1)
    commit = push_module._commit
    heads: list[str] = []

    def broken(*asked: Any) -> str:
        if heads:
            raise ConnectionResetError("the network is gone")
        heads.append(commit(*asked))
        return heads[0]

    with monkeypatch.context() as patched:
        patched.setattr(push_module, "_commit", broken)
        with pytest.raises(RunError, match="the same command uploads the rest"):
            online.push(finished.output)
    first, second = (f"data/{finished.plan.unit(index).part}" for index in (0, 1))
    assert sorted(online.files()) == [first, "gemma3_batch.json"]
    done = online.push(finished.output)
    assert (done.uploaded, done.commits) == (1, 1)
    assert sorted(online.files()) == ["README.md", first, second, "gemma3_batch.json"]


def test_of_two_pushes_at_once_one_is_told(finished: Run, online: Online) -> None:
    online.push(finished.output)
    finished.fix(0, 3)
    repository = online.hub.repositories["datasets", "us/answers"]

    def meanwhile(text: str) -> None:
        if "to upload" in text:
            repository.write("other.txt", b"somebody else's commit")

    with pytest.raises(UserError, match="somebody else has changed it meanwhile; push again"):
        online.push(finished.output, say=meanwhile)
    assert online.push(finished.output).uploaded == 1


def test_an_unfinished_run_is_refused_unless_its_parts_are_wanted(
    output: Location, source: Input, gemma_folder: Path, online: Online
) -> None:
    half = begin(output, source, gemma_folder)
    with pytest.raises(UserError, match=r"is not finished: 0 of 20 rows .* --partial"):
        online.push(output)
    with pytest.raises(UserError, match="has no results yet"):
        online.push(output, partial=True)
    half.commit(0)
    with pytest.raises(UserError, match=r"is not finished: 10 of 20 rows"):
        online.push(output)
    assert not online.hub.repositories
    assert online.push(output, partial=True).uploaded == 1
    assert "The run is not finished: 10 rows are missing." in online.files()["README.md"].decode()
    half.commit(1)
    finish(output, half.record, {"rows": 20})
    assert online.push(output).uploaded == 1
    assert "not finished" not in online.files()["README.md"].decode()


def test_a_branch_is_made_and_filled(finished: Run, online: Online) -> None:
    online.push(finished.output, f"{TARGET}@try-1")
    repository = online.hub.repositories["datasets", "us/answers"]
    assert not online.files()
    assert (repository.branches["try-1"].folder / "README.md").exists()
    assert online.push(finished.output, f"{TARGET}@try-1").commits == 0


def test_another_runs_answers_are_not_replaced(
    finished: Run, online: Online, tmp_path: Path, source: Input, gemma_folder: Path
) -> None:
    online.push(finished.output)
    other = begin(locate(str(tmp_path / "other")), source, gemma_folder)
    other.commit(0)
    other.commit(1)
    with pytest.raises(UserError, match=r"it holds the answers of another run \(\w+\); name"):
        online.push(other.output)
    (online.hub.repositories["datasets", "us/answers"].folder / "gemma3_batch.json").unlink()
    with pytest.raises(UserError, match="of an unknown one"):
        online.push(other.output)


def test_a_card_of_ones_own_is_kept(finished: Run, online: Online) -> None:
    online.push(finished.output)
    repository = online.hub.repositories["datasets", "us/answers"]
    text = online.files()["README.md"].decode()
    repository.write("README.md", text.replace(MARK, "My words.").encode())
    finished.fix(0, 3, 7)
    assert online.push(finished.output).keeps_card
    assert "My words." in online.files()["README.md"].decode()
    assert "| `decode_error` | 2 |" in online.files()["README.md"].decode()


def test_the_card_says_what_made_it_and_nothing_of_the_machine(
    finished: Run, online: Online, gemma_folder: Path
) -> None:
    online.push(finished.output)
    files = online.files()
    text = files["README.md"].decode()
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/part-*.parquet"}],
            }
        ],
        "size_categories": ["n<1K"],
        "tags": ["gemma3-batch", "synthetic"],
    }
    for due in (
        MARK,
        "# answers",
        "20 rows with answers of gemma, made with gemma3-batch (`colour`).",
        "| `ok` | 18 |\n| `decode_error` | 2 |",
        '"prompt": "Which `colour`?"',
        "| architecture | Gemma3ForConditionalGeneration |",
        "| `colour` | list<item: int16> |",
        "| ray | 2.60",
        "https://ai.google.dev/gemma/terms",
    ):
        assert due in body, due
    run = json.loads(files["gemma3_batch.json"])
    assert (run["settings"], run["model"]["name"]) == ({"prompt": "Which `colour`?"}, "gemma")
    for private in ("secret-bucket", "someone", str(gemma_folder.parent), TOKEN):
        assert private not in text
        assert private not in files["gemma3_batch.json"].decode()


@pytest.mark.parametrize("form", [*FORMATS])
def test_each_format_is_read_back_by_datasets(
    form: str, source: Input, gemma_folder: Path, online: Online, tmp_path: Path
) -> None:
    done = begin(locate(str(tmp_path / "out")), source, gemma_folder, form)
    done.commit(0)
    done.commit(1)
    online.push(done.output)
    folder = online.hub.repositories["datasets", "us/answers"].folder
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    column = "txt" if form == "webdataset" else "text"
    assert loaded[column][:] == [f"t{n}" for n in range(10)] * 2


def test_private_means_private(finished: Run, online: Online) -> None:
    online.push(finished.output, private=True)
    assert online.hub.repositories["datasets", "us/answers"].is_private
    online.push(finished.output, "hf://datasets/us/open")
    with pytest.raises(UserError, match="it is public already"):
        online.push(finished.output, "hf://datasets/us/open", private=True)


def test_refusals_of_the_hub_are_one_line_with_the_fix(
    finished: Run, online: Online, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.push(finished.output)
    finished.fix(0, 3)
    online.hub.may_write = False
    with pytest.raises(UserError, match=r"^hf://datasets/us/answers: HF_TOKEN may not write there"):
        online.push(finished.output)
    online.hub.may_write, online.hub.new = True, None
    with pytest.raises(UserError, match=r"us/none: HF_TOKEN may not write there; make one"):
        online.push(finished.output, "hf://datasets/us/none")
    online.options["hf"]["token"] = "hf_wrong"
    with pytest.raises(UserError, match=r"^hf://datasets/us/answers: [^\n]*HF_TOKEN[^\n]*$"):
        online.push(finished.output)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere/token")
    del online.options["hf"]["token"]
    with pytest.raises(UserError, match=r"^HF_TOKEN is not set; make a token that may write"):
        online.push(finished.output)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert online.push(finished.output).uploaded == 1
    online.options["hf"]["endpoint"] = "http://127.0.0.1:1"
    with pytest.raises(RunError, match="the same command uploads the rest"):
        online.push(finished.output)


@pytest.mark.parametrize(
    "target", ["us/answers", "hf://us/answers", "hf://datasets/us", "s3://b/x"]
)
def test_a_target_that_is_none_is_refused(target: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"should be hf://datasets/owner/name"):
        push(str(tmp_path), target)


def test_a_target() -> None:
    assert str(target_of("hf://datasets/us/x.y/")) == "hf://datasets/us/x.y"
    assert target_of("hf://datasets/us/x@a/b").branch == "a/b"


def test_the_command(source: Input, gemma_folder: Path, online: Online, tmp_path: Path) -> None:
    run = begin(locate(str(tmp_path / "out")), source, gemma_folder)
    run.commit(0)
    arguments = ["push", str(run.output), TARGET, "--storage-options", json.dumps(online.options)]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert "is not finished" in refused.stderr
    done = CliRunner().invoke(app, [*arguments, "--partial", "--private"])
    assert done.exit_code == 0, done.output
    assert "1 parts: 1 uploaded, 0 were there; 1 commit(s)" in done.stdout
    assert "/datasets/us/answers" in done.stdout
    nothing = CliRunner().invoke(app, ["push", str(tmp_path / "no"), TARGET])
    assert (nothing.exit_code, "is not the OUTPUT of a run" in nothing.stderr) == (2, True)


def test_rows_of_the_samples_are_as_large_as_the_hub_takes_for_large(finished: Run) -> None:
    """So that what is tested goes by Git LFS."""
    assert all((finished.output / finished.plan.unit(n).part).info().size > LARGE for n in (0, 1))
    assert pa.schema(RESULTS).names == ["text"]
