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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pyarrow as pa
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
from jobs.registry import JOBS, find_job, job_names, load_job
from jobs.sdk.assembly import configure
from jobs.sdk.retry import restore_task
from pipeline import Generation, UserError, run
from pipeline.engine.interface import Backend, Rendered
from tests.jobs.own.classify_images import Classify
from tests.pipeline.fakes import FakeEngine, FakeRenderer

HERE = Path(__file__).parent
ROWS = 6
LABELS = ["red", "a blue star", "yes"]
OPTIONS = {"model": "demo", "labels": LABELS}


class FirstLabel(FakeEngine):
    async def generate(self, rendered: Rendered, key: str) -> Generation:
        answer = await super().generate(rendered, key)
        return replace(answer, text=json.dumps(LABELS[0]))


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


COMMAND = ("classify", "images", "labels", "--model", "demo", "--labels", ",".join(LABELS))


@pytest.fixture(scope="module")
def classified(folder: Path, ray_cluster: None) -> Path:  # noqa: ARG001
    """What the command would make, by an engine without a model, which passes for vLLM's.

    That vLLM's makes it by the command is `test_by_a_real_engine`; by `ray job submit`, in
    `tests/deploy`.
    """
    job = configure(load_job("tests.jobs.own.classify_images:Classify"), OPTIONS)
    config = job.run_config(str(folder / "images"), str(folder / "labels"))
    backend = Backend(name="vllm", renderer=FakeRenderer, engine=FirstLabel)
    run(config, job.task(), backend=backend)
    record = folder / "labels/_gemma3_batch/run.json"
    place = {"task_class": "classify_images:Classify"}
    record.write_text(json.dumps(json.loads(record.read_text()) | place))
    return folder / "labels"


@pytest.mark.usefixtures("classified")
def test_as_a_command_it_is_the_same_run(folder: Path) -> None:
    done = command(folder, *COMMAND)
    assert done.returncode == 0, done.stderr
    assert f"{ROWS} rows ({ROWS} ok); 0 of them new" in done.stdout


@pytest.mark.long
def test_by_a_real_engine(folder: Path) -> None:
    arguments = ["answers" if part == "labels" else part for part in COMMAND]
    done = command(folder, *arguments)
    assert done.returncode == 0, done.stderr
    assert f"{ROWS} rows ({ROWS} ok); {ROWS} of them new" in done.stdout
    rows = ds.dataset(folder / "answers").to_table().to_pylist()
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
    with pytest.raises(UserError, match=r"in a script or a function; call pipeline\.retry"):
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
    for place in ("json", "json:", "json:no_such", "./json:dumps"):
        with pytest.raises(UserError, match=f"'{place}' "):
            load_job(place)
    with pytest.raises(UserError, match=r"'no_such:X' .*; run it in the module's folder, or name"):
        load_job("no_such:X")


def test_a_task_that_is_made_already_has_no_options_of_its_own() -> None:
    job = job_of(Classify(labels=("a",)))
    assert (job.name, job.options) == ("classify", JobOptions)
    assert configure(job, {"model": "demo"}).task() is job.restore(labels=("a",))


def test_a_task_has_what_the_pipeline_asks_for() -> None:
    class Unmade(Classify):
        def __init__(self, labels: tuple[str, ...] = ()) -> None:
            raise ValueError("labels: two\nare needed")

    with pytest.raises(UserError, match=r"^Unmade cannot be made: ValueError: labels: two are nee"):
        configure(job_of(Unmade), {"model": "demo"}).task()
    wrong: dict[str, Any] = {
        "name": None,
        "columns": {"image": "picture"},
        "result_schema": {"label": "string"},
        "settings": property(lambda _: 1 / 0),
    }
    for attribute, value in wrong.items():
        task: Any = type("Wrong", (Classify,), {attribute: value})
        with pytest.raises(UserError, match=f"^Wrong: its '{attribute}' should be "):
            configure(job_of(task), {"model": "demo", "labels": "a"}).task()
    clash = type("Clash", (Classify,), {"result_schema": pa.schema([("outcome", pa.string())])})
    with pytest.raises(UserError, match=r"^Clash: an output has one column 'outcome'"):
        job_of(clash(labels=("a",)))
    with pytest.raises(UserError, match="job 'x': its options should be a subclass of JobOptions"):
        job_of(Job(name="x", help="", options=Any, build=Any, restore=Any))  # type: ignore[type-var]


def test_settings_that_are_not_json_are_refused_before_anything_starts(
    folder: Path, tmp_path: Path
) -> None:
    task: Any = type("Unrecorded", (Classify,), {"settings": {"labels": {"a"}}})
    with pytest.raises(UserError, match="'classify': its settings should be JSON values"):
        function_of(task)(folder / "images", str(tmp_path / "out"), model="demo", labels="a")
    assert not (tmp_path / "out").exists()


class Point(EntryPoint):
    """An entry point that says what it loads."""

    targets: ClassVar[Mapping[str, object]] = {}

    def load(self) -> object:
        target = self.targets[self.value]
        if isinstance(target, BaseException):
            raise target
        return target


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs packages: the names of their jobs, and what each is."""

    def installed(*jobs: tuple[str, object]) -> None:
        values = [f"package{number}:x" for number, _ in enumerate(jobs)]
        targets = dict(zip(values, (target for _, target in jobs), strict=True))
        monkeypatch.setattr(Point, "targets", targets)
        points = [
            Point(name, value, registry.GROUP)
            for (name, _), value in zip(jobs, values, strict=True)
        ]
        monkeypatch.setattr(registry, "entry_points", lambda **_: points)

    return installed


def told(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [*arguments], env={"COLUMNS": "200"})
    return done.exit_code, done.output


class Opaque(Classify):
    def __init__(self, labels: EntryPoint) -> None: ...


def test_a_broken_package_disturbs_no_other(declare: Callable[..., None]) -> None:
    declare(
        ("exits", SystemExit("usage: [/x]")), ("raises", OSError("no\nfile")), ("opaque", Opaque)
    )
    code, listed = told("--help")
    assert code == 0
    assert listed.count("Cannot be loaded") == 3
    assert "SystemExit: usage: [/x]" in " ".join(listed.split())
    faults = {"exits": "SystemExit: usage", "raises": "OSError: no file", "opaque": "'labels' is a"}
    for name, fault in faults.items():
        code, line = told(name, "in", "out", "--model", "demo", "--labels", "a")
        assert code == 2
        assert fault in line
        assert line.count("\n") == 1


def test_a_name_that_is_taken(declare: Callable[..., None]) -> None:
    declare(("run", Classify), ("twice", Classify), ("twice", Opaque))
    code, line = told("run", "no_such.yaml")
    assert (code, line) == (2, "gemma3-batch: no_such.yaml does not exist\n")  # ours
    assert told("--help")[1].count("\n  run  ") == 1
    code, line = told("twice", "in", "out")
    assert code == 2
    assert "'twice' is declared by several packages: package1:x, package2:x; uninstall" in line


def test_a_wrong_command_is_told_with_the_nearest(declare: Callable[..., None]) -> None:
    declare(("classify", Classify))
    for wrong, right in (("captoin", "caption"), ("clasify", "classify"), ("stats", "status")):
        code, text = told(wrong)
        assert code == 2
        assert f"no such command '{wrong}', did you mean '{right}'; see" in text


class Hostile(Classify):
    """Say [red]what[/blue] it is."""

    def __init__(self, end: str = "[/INST]", sizes: Sequence[int] = (1, 2)) -> None:
        """Make it.

        Args:
            end: What [/b] ends it.
        """


def test_help_shows_texts_and_defaults_as_they_are(declare: Callable[..., None]) -> None:
    declare(("hostile", Hostile))
    assert "Say [red]what[/blue] it is." in told("--help")[1]
    code, text = told("hostile", "--help")
    assert code == 0
    assert "Say [red]what[/blue] it is." in text
    assert "What [/b] ends it. [default: [/INST]]" in text
    assert "--sizes <str> [default: 1,2]" in " ".join(text.split())
    assert "None" not in text
    assert "[default: 8192]" in told("caption", "--help")[1]


def test_a_retry_is_of_the_task_that_made_the_output(declare: Callable[..., None]) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Other(Classify):
        """Another package's job of the same name."""

    place = "tests.jobs.own.classify_images:Classify"
    record = {"task": "classify", "task_class": place, "settings": {"labels": ["a"]}}
    declare(("classify", Other))
    assert type(restore_task(record)) is Classify
    assert type(restore_task({**record, "task_class": "moved.since:Other"})) is Other
    declare(("classify", Opaque))
    assert type(restore_task(record)) is Classify
    declare()
    assert type(restore_task({**record, "task": "caption"})) is Classify  # ours has this name too
    ours = {"task": "caption", "task_class": "jobs.captions:CaptionTask"}
    task = JOBS["caption"].restore(prompt="x")
    assert restore_task({**ours, "settings": task.settings}) == task
    for nowhere in ("__main__:Mine", "x:f.<locals>.Mine", ""):
        with pytest.raises(UserError, match=r"was defined in a script or a function"):
            restore_task({**record, "task_class": nowhere})
    with pytest.raises(UserError, match=r"by the task 'classify': .*no attribute 'Renamed'"):
        restore_task({**record, "task_class": place.replace(":Classify", ":Renamed")})


def test_a_job_of_ones_own_says_how_it_is_built(declare: Callable[..., None]) -> None:
    class Options(JobOptions):
        pair: str = Field(description="Two labels.")

    def build(options: Options, _: object) -> Classify:
        return Classify(labels=tuple(options.pair.split("/")))

    job = Job(name="choose", help="Choose.", options=Options, build=build, restore=Classify)

    declare(("choose", job), ("caption", job))
    assert find_job("choose") is job
    assert find_job("caption") is registry.JOBS["caption"]  # ours keep their names
    assert job_names() == ["caption", "translate", "moderate", "choose"]
    made = configure(job, {"model": "demo", "pair": "a/b"}).task()
    assert made == Classify(labels=("a", "b"))
    assert told("choose", "a", "b", "--model", "demo", "--pairs", "x")[0] == 2
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
