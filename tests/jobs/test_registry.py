"""The command line, job files and the SDK have the same options under the same names."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import model_validator

from jobs import caption, moderate, translate
from jobs.captioning.job import CaptionOptions
from jobs.cli.app import job_command
from jobs.cli.job_file import read_job_file
from jobs.cli.reference import pages
from jobs.options.check import OptionError, check_options
from jobs.options.common import JobOptions, destination
from jobs.registry import JOBS
from jobs.translation.job import TranslateOptions
from pipeline import EngineConfig, RunConfig, UserError

NEEDED: dict[str, dict[str, Any]] = {
    "caption": {"model": "m"},
    "translate": {"model": "m", "to": "de"},
    "moderate": {"model": "m"},
}
FUNCTIONS = {"caption": caption, "translate": translate, "moderate": moderate}
CALL = {"input", "output", "engine", "console", "debug"}


def flags(job: str) -> dict[str, set[str]]:
    """The options of a command, by the name of the argument each fills, and their flags."""
    found = {p.name: {*p.opts, *p.secondary_opts} for p in job_command(job).params}
    assert found.keys() >= {"input", "output"}
    return {name: flag for name, flag in found.items() if name not in ("input", "output")}


@pytest.mark.parametrize("job", [*JOBS])
def test_the_names_are_the_same_everywhere(job: str) -> None:
    names = {*JOBS[job].options.model_fields}
    assert inspect.signature(FUNCTIONS[job]).parameters.keys() == names | CALL
    found = flags(job)
    assert found.keys() - {"confirm", "debug", "log_format"} == names
    for name in names:
        assert "--" + name.replace("_", "-") in found[name]


@pytest.mark.parametrize("job", [*JOBS])
def test_every_option_says_what_it_is(job: str) -> None:
    for name, field in JOBS[job].options.model_fields.items():
        assert field.description, name
        assert f"    {name}: {field.description}" in str(FUNCTIONS[job].__doc__)


def test_an_option_goes_where_a_field_has_its_name() -> None:
    assert destination("max_num_seqs") == destination("max_images") == "engine"
    assert destination("unit_rows") == destination("storage_options") == "run"
    assert destination("prompt") == destination("to") == "task"
    job_options = {*CaptionOptions.model_fields}
    assert {"max_model_len", "stall_seconds"} <= job_options & {*EngineConfig.model_fields}
    assert {"keep_images", "max_error_rate"} <= job_options & {*RunConfig.model_fields}


def test_what_is_made_from_the_options_is_up_to_date() -> None:
    for path, text in pages().items():
        assert (files("jobs") / path).read_text() == text, "run `make reference`"


RIGHT = """
caption("in", "out", model="m", prompt="p", engine_args="a=1", max_images=2)
translate(["a"], to=["de"])
translate(["a"], to="de", model="m")
moderate("in", "out", model="m", thresholds={"violence": 0.3})
"""
WRONG = {
    'caption("in", "out", model="m", promt="p")': 'Unexpected keyword argument "promt"',
    'caption("in", "out", model="m", n="many")': 'incompatible type "str"; expected "int"',
    'translate("in", "out", model="m")': 'Missing named argument "to"',
}


def test_type_checkers_know_the_options(tmp_path: Path) -> None:
    script, root = tmp_path / "script.py", Path(__file__).parents[2]
    begin = f"from jobs import caption, moderate, translate\n{RIGHT}"
    script.write_text(begin + "\n".join(WRONG))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml"), str(script)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    first = begin.count("\n") + 1
    assert len(found) == len(WRONG), done.stdout
    for line, (number, fault) in zip(found, enumerate(WRONG.values(), first), strict=True):
        assert f"script.py:{number}: error: " in line
        assert fault in line


def file_with(folder: Path, **fields: Any) -> str:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return str(path)


@pytest.mark.parametrize("job", [*JOBS])
def test_every_option_can_be_in_a_job_file(job: str, tmp_path: Path) -> None:
    options = check_options(JOBS[job].options, NEEDED[job])
    fields = options.model_dump(mode="json")
    read = read_job_file(file_with(tmp_path, job=job, input="i", output="o", **fields))
    assert (read.job.options, read.input, read.output) == (options, "i", "o")


@pytest.mark.parametrize("job", [*JOBS])
def test_a_wrong_name_is_told_with_the_nearest(job: str, tmp_path: Path) -> None:
    wanted = r"max_num_seq: there is no such option; did you mean 'max_num_seqs'\?"
    with pytest.raises(UserError, match=wanted):
        FUNCTIONS[job]("in", "out", **NEEDED[job], max_num_seq=3)
    path = file_with(tmp_path, job=job, input="i", output="o", **NEEDED[job], max_num_seq=3)
    line = 4 + len(NEEDED[job])
    with pytest.raises(UserError, match=rf"job\.yaml:{line}: {wanted}"):
        read_job_file(path)


def test_texts_keep_their_white_space(tmp_path: Path) -> None:
    texts = {"prompt": " Describe:\n\n", "system": "\tBe brief. "}
    read = check_options(CaptionOptions, {"model": "m", **texts})
    assert (read.prompt, read.system) == (texts["prompt"], texts["system"])
    job = read_job_file(
        file_with(tmp_path, job="caption", input="i", output="o", model="m", **texts)
    )
    assert job.job.options == read
    task = job.job.task()
    assert task.settings["prompt"] == texts["prompt"]
    with pytest.raises(OptionError, match=r"^model: "):
        check_options(CaptionOptions, {"model": " "})


def test_lists_and_mappings_can_be_text() -> None:
    given = {"model": "m", "to": " de, fr ,", "engine_args": "a=1,b=x"}
    translated = check_options(TranslateOptions, given)
    assert translated.to == ("de", "fr")
    assert translated.engine_args == {"a": 1, "b": "x"}
    read = check_options(CaptionOptions, {"model": "m", "storage_options": '{"s3": {"key": "k"}}'})
    assert read.storage_options == {"s3": {"key": "k"}}
    assert "'k'" not in repr(read)


@pytest.mark.parametrize(
    ("values", "option", "fault"),
    [
        ({}, "model", "model: is missing"),
        ({"model": "m", "max_tokens": 0}, "max_tokens", "max_tokens: input should be greater"),
        ({"model": "m", "dtype": "float16"}, "dtype", "dtype: input should be 'auto'"),
        ({"model": "m", "engine_args": "a"}, "engine_args", "NAME=VALUE"),
        ({"model": "m", "n": "many"}, "n", "n: input should be a valid integer"),
    ],
)
def test_a_wrong_value_is_told_with_its_option(
    values: dict[str, Any], option: str, fault: str
) -> None:
    with pytest.raises(OptionError, match=fault) as told:
        check_options(CaptionOptions, values)
    assert told.value.option == option


class Ordered(JobOptions):
    """Options of one's own that are checked together."""

    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _is_ordered(self) -> Ordered:
        if self.low > self.high:
            raise ValueError(f"low: should be at most high (got {self.low})")
        return self


def test_options_that_are_checked_together_are_told_by_what_is_said_of_them() -> None:
    given = {"model": "m", "low": 2, "storage_options": {"s3": {"key": "secret"}}}
    with pytest.raises(OptionError) as told:
        check_options(Ordered, given)
    assert str(told.value) == "low: should be at most high (got 2)"
    assert told.value.option == "low"


@pytest.mark.parametrize(
    ("given", "most"),
    [
        ({"frames": "16"}, 16),
        ({"frames": 16}, 16),
        ({"frames": "4"}, 8),
        ({"frames": "16", "max_images": "2"}, 2),
        ({"fps": "0.5"}, 24),
        ({"fps": "0.5", "frames": "30"}, 24),
        ({"frames": 16, "max_images": None}, 16),
        ({}, 8),
    ],
)
def test_a_request_takes_the_frames_that_are_asked_for(given: dict[str, Any], most: int) -> None:
    read = check_options(CaptionOptions, {"model": "m", **given})
    assert read.max_images == most
    assert ("max_images" in read.model_fields_set) == (most not in (8,))


@pytest.mark.parametrize("thresholds", [{"violence": True}, "violence=true", {"violence": "high"}])
def test_a_threshold_is_a_number(thresholds: Any) -> None:
    moderation = JOBS["moderate"].options
    with pytest.raises(OptionError, match=r"thresholds\.violence: .* valid number"):
        check_options(moderation, {"model": "m", "thresholds": thresholds})
    given = {"model": "m", "thresholds": "violence=0.3,sexual=1"}
    found = check_options(moderation, given).model_dump()["thresholds"]
    assert found == {"violence": 0.3, "sexual": 1.0}
