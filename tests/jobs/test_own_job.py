"""A job from outside the packages is a command, a job file and a function like ours.

Nothing in `jobs` or `pipeline` knows of it: its module lies in a folder of its own, beside the
metadata that `pip install` would have written. `ray job submit` of it is in `tests/deploy`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any

import pyarrow.dataset as ds
import pytest
from pydantic import Field
from typer.testing import CliRunner

from jobs import Job, caption, function_of, registry
from jobs.cli import app as cli
from jobs.cli.job_file import read_job_file
from jobs.demo.dataset import write_dataset
from jobs.options.common import JobOptions
from jobs.options.job import job_of
from jobs.registry import find_job, job_names, load_job
from jobs.sdk.assembly import configure
from jobs.sdk.retry import restore_task
from pipeline import UserError
from tests.jobs.own.classify_images import Classify

HERE = Path(__file__).parent
ROWS = 6
LABELS = ["red", "a blue star", "yes"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has: their package, installed, and some images."""
    folder = tmp_path_factory.mktemp("own")
    package = folder / "site"
    package.mkdir()
    shutil.copy(HERE / "own" / "classify_images.py", package)
    metadata = package / "classify_images-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: classify-images\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(
        "[gemma3_batch.jobs]\n"
        "classify = classify_images:Classify\n"
        "broken = no_such_module:Nothing\n"
    )
    write_dataset(folder / "images", ROWS, seed=2)
    return folder


def command(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "jobs", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
    )


@pytest.fixture(scope="module")
def classified(folder: Path) -> Path:
    """The output of the command."""
    done = command(
        folder, "classify", "images", "labels", "--model", "demo", "--labels", ",".join(LABELS)
    )
    assert done.returncode == 0, done.stderr
    assert f"{ROWS} rows ({ROWS} ok)" in done.stdout
    return folder / "labels"


def test_as_a_command(classified: Path) -> None:
    rows = ds.dataset(classified).to_table().to_pylist()
    assert len(rows) == ROWS
    assert {row["label"] for row in rows} <= {*LABELS}


def test_its_help_is_made_like_ours(folder: Path) -> None:
    shown = command(folder, "classify", "--help").stdout
    assert "Choose the label that fits each image." in shown
    assert "The labels to choose from: red,green." in shown
    assert "--image-column" in shown
    assert "--max-num-seqs" in shown
    listed = command(folder, "--help").stdout
    assert "Choose the label that fits each image." in listed
    assert "Cannot be loaded" in listed  # of the broken one, which disturbs no other
    broken = command(folder, "broken")
    assert broken.returncode == 2
    assert "no_such_module:Nothing cannot be loaded: ModuleNotFoundError" in broken.stderr


@pytest.mark.usefixtures("classified")
def test_as_a_job_file_which_continues_what_the_command_did(folder: Path) -> None:
    labels = json.dumps(LABELS)
    common = f"input: images\noutput: labels\nmodel: demo\nlabels: {labels}\n"
    for number, what in enumerate(("job: classify", "task: classify_images:Classify")):
        (folder / f"{number}.yaml").write_text(f"{what}\n{common}")
        done = command(folder, "run", f"{number}.yaml")
        assert done.returncode == 0, done.stderr
        assert "; 0 of them new" in done.stdout
    (folder / "wrong.yaml").write_text(f"task: classify_images:Classify\n{common}lables: x\n")
    done = command(folder, "run", "wrong.yaml")
    assert done.returncode == 2
    assert "wrong.yaml:6: lables: there is no such option; did you mean 'labels'?" in done.stderr


def test_its_failed_rows_are_retried_from_the_record(folder: Path, classified: Path) -> None:
    done = command(folder, "retry", "labels", "--outcome", "decode_error")
    assert done.returncode == 0, done.stderr
    record = json.loads((classified / "_gemma3_batch/run.json").read_text())
    assert record["task_class"] == "classify_images:Classify"
    installed_nowhere = {**record, "task_class": "tests.jobs.own.classify_images:Classify"}
    assert restore_task(installed_nowhere) == Classify(labels=tuple(LABELS))
    with pytest.raises(
        UserError, match=r"cannot be made from the settings that OUTPUT records: .*labels"
    ):
        restore_task({**installed_nowhere, "settings": {"label": "x"}})
    with pytest.raises(UserError, match=r"was defined in a script; call pipeline\.retry"):
        restore_task({**record, "task_class": "__main__:Classify"})


def test_as_a_function(folder: Path) -> None:
    classify = function_of(Classify)
    assert classify.__name__ == "classify"  # type: ignore[attr-defined]
    assert "labels: The labels to choose from: red,green." in str(classify.__doc__)
    with pytest.raises(UserError, match="labels: is missing"):
        classify(["a.jpg"], model="demo")
    with pytest.raises(UserError, match=r"no such option; did you mean 'image_column'\?"):
        classify(["a.jpg"], model="demo", labels="a,b", image_colum="x")
    images = [str(path) for path in (folder / "images").glob("*.jpg")]
    assert classify([], model="demo", labels="a,b") == caption([], model="demo") == []
    assert not images


def test_options_of_a_class_of_tasks() -> None:
    made = configure(job_of(Classify), {"model": "demo", "labels": "a, b", "unit_rows": 3})
    assert made.task() == Classify(labels=("a", "b"))
    assert made.run_config("in", "out").unit_rows == 3

    @dataclass(frozen=True, kw_only=True)
    class Described(Classify):
        least: Annotated[int, Field(ge=1, description="Least of it.")] = 1

    fields = job_of(Described).options.model_fields
    assert fields["least"].description == "Least of it."
    with pytest.raises(UserError, match="least: input should be greater than or equal to 1"):
        configure(job_of(Described), {"model": "demo", "labels": "a", "least": 0})


def test_what_is_no_job_is_refused() -> None:
    class Clash(Classify):
        def __init__(self, model: str) -> None: ...

    class Loose(Classify):
        def __init__(self, **anything: str) -> None: ...

    with pytest.raises(UserError, match="its parameter 'model' has the name of an option of every"):
        job_of(Clash)
    with pytest.raises(UserError, match=r"'\*anything' cannot be an option"):
        job_of(Loose)
    with pytest.raises(UserError, match="is not a task: it has no 'prepare'"):
        load_job("json:dumps")
    for place in ("json", "json:", "json:no_such", "no_such_module:X"):
        with pytest.raises(UserError, match=f"'{place}' "):
            load_job(place)


def test_a_task_that_is_made_already_has_no_options_of_its_own() -> None:
    job = job_of(Classify(labels=("a",)))
    assert (job.name, job.options) == ("classify", JobOptions)
    assert configure(job, {"model": "demo"}).task() is job.restore(labels=("a",))


def test_a_job_of_ones_own_says_how_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    class Options(JobOptions):
        pair: str = Field(description="Two labels.")

    def build(options: Options, _: object) -> Classify:
        return Classify(labels=tuple(options.pair.split("/")))

    job = Job(name="choose", help="Choose.", options=Options, build=build, restore=Classify)

    def points(*, group: str) -> list[Any]:
        assert group == "gemma3_batch.jobs"
        return [Point("choose", "x:y", group), Point("caption", "x:z", group)]

    class Point(EntryPoint):
        def load(self) -> object:
            return job

    monkeypatch.setattr(registry, "entry_points", points)
    assert find_job("choose") is job
    assert find_job("caption") is registry.JOBS["caption"]  # ours keep their names
    assert job_names() == ["caption", "translate", "moderate", "choose"]
    made = configure(job, {"model": "demo", "pair": "a/b"}).task()
    assert made == Classify(labels=("a", "b"))
    told = CliRunner().invoke(cli.app, ["choose", "a", "b", "--model", "demo", "--pairs", "x"])
    assert told.exit_code == 2
    record: Mapping[str, Any] = {"task": "choose", "settings": {"labels": ["a"]}}
    assert restore_task(record) == Classify(labels=["a"])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"'chose': there is no such job; did you mean 'choose'\?"):
        find_job("chose")


def test_a_job_file_names_a_job_or_a_task(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("job: caption\ntask: a:b\ninput: i\noutput: o\n")
    with pytest.raises(UserError, match=r"job\.yaml:2: task: replaces job"):
        read_job_file(str(path))
    path.write_text("input: i\ntask: a.b\noutput: o\n")
    with pytest.raises(UserError, match=r"job\.yaml:2: task: 'a\.b' should be package.module:Name"):
        read_job_file(str(path))
