"""One list of options: the command line, job files and the SDK have the same, under one name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from jobs import caption, cli, moderate, translate
from jobs.cli.job_file import read_job_file
from jobs.options.check import OptionError, check_options
from jobs.options.job_options import OPTIONS, CaptionOptions, Job, TranslateOptions
from jobs.settings import CaptionSettings, ModerateSettings, TranslateSettings
from pipeline import UserError

SETTINGS: dict[Job, Any] = {
    "caption": CaptionSettings,
    "translate": TranslateSettings,
    "moderate": ModerateSettings,
}
NEEDED: dict[Job, dict[str, Any]] = {
    "caption": {"model": "m"},
    "translate": {"model": "m", "to": "de"},
    "moderate": {"model": "m"},
}


def flags(job: Job) -> dict[str, set[str]]:
    """The options of a command, by the name of the argument each fills, and their flags."""
    command = typer.main.get_command(cli.app).commands[job]  # type: ignore[attr-defined]
    found = {p.name: {*p.opts, *p.secondary_opts} for p in command.params}
    assert found.keys() >= {"input", "output"}
    return {name: flag for name, flag in found.items() if name not in ("input", "output")}


@pytest.mark.parametrize("job", [*OPTIONS])
def test_the_names_are_the_same_everywhere(job: Job) -> None:
    names = {*OPTIONS[job].model_fields}
    assert SETTINGS[job].__annotations__.keys() == names
    found = flags(job)
    assert found.keys() - {"debug"} == names
    for name in names:
        assert "--" + name.replace("_", "-") in found[name]


@pytest.mark.parametrize("job", [*OPTIONS])
def test_every_option_says_what_it_is(job: Job) -> None:
    for name, field in OPTIONS[job].model_fields.items():
        assert field.description, name


def file_with(folder: Path, **fields: Any) -> str:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return str(path)


@pytest.mark.parametrize("job", [*OPTIONS])
def test_every_option_can_be_in_a_job_file(job: Job, tmp_path: Path) -> None:
    options = check_options(OPTIONS[job], NEEDED[job])
    fields = options.model_dump(mode="json")
    read = read_job_file(file_with(tmp_path, job=job, input="i", output="o", **fields))
    assert (read.options, read.input, read.output) == (options, "i", "o")


@pytest.mark.parametrize(
    ("job", "function"), [("caption", caption), ("translate", translate), ("moderate", moderate)]
)
def test_a_wrong_name_is_told_with_the_nearest(job: Job, function: Any, tmp_path: Path) -> None:
    wanted = r"max_num_seq: there is no such option; did you mean 'max_num_seqs'\?"
    with pytest.raises(UserError, match=wanted):
        function("in", "out", **NEEDED[job], max_num_seq=3)
    path = file_with(tmp_path, job=job, input="i", output="o", **NEEDED[job], max_num_seq=3)
    line = 4 + len(NEEDED[job])
    with pytest.raises(UserError, match=rf"job\.yaml:{line}: {wanted}"):
        read_job_file(path)


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


@pytest.mark.parametrize("thresholds", [{"violence": True}, "violence=true", {"violence": "high"}])
def test_a_threshold_is_a_number(thresholds: Any) -> None:
    with pytest.raises(OptionError, match=r"thresholds\.violence: .* valid number"):
        check_options(OPTIONS["moderate"], {"model": "m", "thresholds": thresholds})
    given = {"model": "m", "thresholds": "violence=0.3,sexual=1"}
    found = check_options(OPTIONS["moderate"], given).model_dump()["thresholds"]
    assert found == {"violence": 0.3, "sexual": 1.0}
