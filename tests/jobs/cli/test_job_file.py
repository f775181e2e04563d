"""Job files: an error is one line that names the line in the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
from typer.testing import CliRunner

from jobs.captioning.job import CaptionOptions
from jobs.cli import app as cli
from jobs.cli.job_file import JobFile, check_reachable, read_job_file
from jobs.registry import JOBS
from jobs.sdk.assembly import configure
from jobs.translation.job import TranslateOptions
from pipeline import UserError

GOOD = """\
# captions for the shop
job: caption
input: ${FOLDER}/in
output: /out
model: demo
engine_args:
  block_size: 32
"""


def read(folder: Path, text: str) -> JobFile:
    path = folder / "job.yaml"
    path.write_text(text)
    return read_job_file(str(path))


def test_a_job_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDER", "/data")
    job = read(tmp_path, GOOD)
    assert (job.input, job.output) == ("/data/in", "/out")
    assert job.job.options == CaptionOptions(model="demo", engine_args={"block_size": 32})


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("model: demo", "modle: demo", ":5: modle: there is no such option; did you mean 'model'?"),
        ("model: demo", "", ":1: model: is missing"),
        (
            "job: caption",
            "job: captions",
            ":2: job: 'captions': there is no such job; did you ",
        ),
        ("job: caption", "", ":1: job: is missing"),
        ("output: /out", "output: 3", ":4: output: should be text"),
        ("output: /out", "output:", ":4: output: is missing"),
        ("model: demo", "model: demo\nmodel: x", ":6: model: is there twice"),
        ("model: demo", "model: demo\nn: many", ":6: n: input should be a valid integer"),
        ("${FOLDER}", "${NO_SUCH_NAME}", ":3: input: the environment has no NO_SUCH_NAME"),
        ("model: demo", "model: [", ":7: expected ',' or ']'"),
        ("model: demo", "<<: {model: demo}", ":5: <<: there is no such option"),
        ("model: demo", "~: demo", ":5: ~: there is no such option"),
        ("model: demo", "? [a]\n: b", ":5: a field should have a name"),
        ("model: demo", "model: demo\nn: !!int x", ":6: cannot be read: ValueError"),
        ("model: demo", "model: demo\nsystem: ''", ":6: system: is empty; give it a value"),
        ("model: demo", "\tmodel: demo", ":5: found character '\\t' that cannot start any token"),
    ],
)
def test_a_fault_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, fault: str
) -> None:
    monkeypatch.setenv("FOLDER", "/data")
    with pytest.raises(UserError) as told:
        read(tmp_path, GOOD.replace(old, new))
    assert str(told.value).startswith(f"{tmp_path}/job.yaml{fault}")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_file_without_fields_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="should hold fields"):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.yaml does not exist"):
        read_job_file(str(tmp_path / "no.yaml"))


def test_a_submitted_job_names_places_that_all_machines_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = configure(JOBS["caption"], {"model": "demo"})
    here = JobFile(input="images", output="/out", job=job)
    check_reachable(here)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(UserError, match="input: 'images' is relative"):
        check_reachable(here)
    check_reachable(JobFile(input="s3://bucket/in", output="/out", job=job))


def test_no_is_norwegian_or_false_and_a_date_is_text(tmp_path: Path) -> None:
    text = "job: translate\ninput: /in\noutput: /2024-13-45\nmodel: 2024-01-02\nto: [de, no]\n"
    options = read(tmp_path, text + "source: no\ndedup: no\nengine_args: {a: no}\n").job.options
    assert isinstance(options, TranslateOptions)
    assert (options.to, options.source, options.dedup) == (("de", "no"), "no", False)
    assert (options.model, options.engine_args) == ("2024-01-02", {"a": False})
    assert read(tmp_path, text.replace("[de, no]", "no")).job.options.model_dump()["to"] == ("no",)


def test_words_mean_the_same_in_the_entries_of_a_list(tmp_path: Path) -> None:
    text = (
        "job: caption\ninput: /in\noutput: /out\nmodel: demo\n"
        "engine_args: {revision: 2024-01-01, block_size: 010}\n"
        "limit: 010\nwhere: 12:30\n"
        "prompts:\n"
        "- &first {name: a, language: no, clean: no}\n"
        "- {<<: *first, name: b, json_schema: {additionalProperties: no}}\n"
    )
    options = read(tmp_path, text).job.options
    assert isinstance(options, CaptionOptions)
    assert (options.limit, options.where) == (10, "12:30")
    assert options.engine_args == {"revision": "2024-01-01", "block_size": "010"}
    first = {"name": "a", "language": "no", "clean": "no"}
    schema = {"json_schema": {"additionalProperties": False}}
    assert options.prompts == [first, {**first, "name": "b", **schema}]


@pytest.mark.parametrize(("character", "name"), [("\x07", "U+0007"), ("\x00", "U+0000")])
def test_a_control_character_is_told_with_its_line(
    tmp_path: Path, character: str, name: str
) -> None:
    with pytest.raises(UserError) as told:
        read(tmp_path, f"job: caption\ninput: /in{character}\n")
    assert str(told.value) == (
        f"{tmp_path}/job.yaml:2: the character {name} cannot be in YAML; remove it"
    )


def test_a_fault_that_is_found_later_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    text = "job: translate\ninput: /no/input\noutput: /out\nmodel: demo\nto: [fr, dee]\n"
    path.write_text(text)
    done = CliRunner().invoke(cli.app, ["run", str(path)])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"gemma3-batch: {path}:5: to: 'dee' is not the code of a lang")
    text = text.replace("dee", "de")
    path.write_text(text)
    done = CliRunner().invoke(cli.app, ["run", str(path)])
    assert (done.exit_code, done.stderr) == (
        2,
        f"gemma3-batch: {path}:2: INPUT /no/input does not exist\n",
    )


def test_a_column_that_is_not_there_is_told_with_the_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    fields = {"job": "translate", "input": str(tmp_path / "in.jsonl"), "output": "/out"}
    own = {"model": "demo", "to": "de", "text_columns": "txet"}
    path = tmp_path / "job.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in (fields | own).items()))
    done = CliRunner().invoke(cli.app, ["run", str(path)])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"gemma3-batch: {path}:6: INPUT has no column 'txet'; ")


def test_a_folder_is_no_job_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{tmp_path} is a folder; name a job file$"):
        read_job_file(str(tmp_path))


@pytest.fixture
def _no_store_known() -> Iterator[None]:
    """fsspec caches its filesystems: without this, an earlier test's server would answer."""
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.usefixtures("_no_store_known")
def test_a_file_in_a_store_that_cannot_be_asked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UserError, match=r"^job file s3://bucket/job\.yaml: nothing answers at"):
        read_job_file("s3://bucket/job.yaml")
