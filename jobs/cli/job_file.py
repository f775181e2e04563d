"""Job files: a job, its input and output, and its options, in YAML.

    job: caption
    input: s3://bucket/images
    output: s3://bucket/captions
    model: /models/gemma-3-4b-it
    language: fr

Instead of the name of a job, `task: my_package.my_module:MyTask` names a task or a job of your own.
The options have the names that they have on the command line and in the SDK. `${NAME}` in a value
is taken from the environment. Whatever is wrong is told with the file and the line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from jobs.options.check import OptionError, unknown_option
from jobs.registry import find_job, load_job
from jobs.sdk.assembly import ConfiguredJob, configure
from pipeline import UserError
from pipeline.contract.errors import one_line
from pipeline.storage.location import locate

if TYPE_CHECKING:
    from jobs.job import Job

OWN = ("job", "task", "input", "output")
"""Fields that are no options; of the first two a file has one."""
SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets it for what `ray job submit` starts (2.60)."""
WORDS = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
"""What YAML makes of some words."""
FIRST_WORD = re.compile(r"\w*")
VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class JobFile:
    """A checked job file.

    Attributes:
        input: As `caption`'s.
        output: As `caption`'s.
        job: The job, with its options.
        path: Where the file is.
        lines: The line of each field.
    """

    input: str
    output: str
    job: ConfiguredJob
    path: str = ""
    lines: Mapping[str, int] = dataclass_field(default_factory=dict)

    def located(self, error: UserError) -> UserError:
        """An error that begins with a field's name, with the file and the field's line."""
        word = FIRST_WORD.match(str(error))
        line = self.lines.get(word[0].lower() if word else "")
        return error if line is None else UserError(f"{self.path}:{line}: {error}")


def read_job_file(path: str) -> JobFile:
    """Read and check a job file, a path or a URI.

    Raises:
        UserError: It cannot be read or is wrong; names the file, the line and the field.
    """
    values, lines = _parsed(path)

    def wrong(name: str, message: str) -> UserError:
        return UserError(f"{path}:{lines.get(name, 1)}: {message}")

    job = _job(values, wrong)
    rest = {name: value for name, value in values.items() if name not in OWN}
    for name in rest:
        if name not in job.options.model_fields:
            raise wrong(name, unknown_option(name, [*OWN, *job.options.model_fields]))
    places = {name: _required(name, values, wrong) for name in ("input", "output")}
    try:
        configured = configure(job, rest)
    except OptionError as error:
        raise wrong(error.option, str(error)) from None
    return JobFile(job=configured, path=path, lines=lines, **places)


def _job(values: Mapping[str, Any], wrong: Callable[[str, str], UserError]) -> Job[Any]:
    """The job that the field `job` or `task` names."""
    if "task" in values and "job" in values:
        raise wrong("task", "task: takes the place of job; give one of the two")
    field = "task" if "task" in values else "job"
    named = _required(field, values, wrong)
    try:
        return load_job(named) if field == "task" else find_job(named)
    except UserError as error:
        raise wrong(field, f"{field}: {error}") from error


def check_reachable(job: JobFile) -> None:
    """Refuse relative paths where they would not mean what they say.

    Ray runs a submitted job in its own copy of the folder, on whichever machine the head is.

    Raises:
        UserError: INPUT or OUTPUT is a relative path in a job that `ray job submit` started.
    """
    if SUBMITTED not in os.environ:
        return
    for name, where in (("input", job.input), ("output", job.output)):
        if "://" not in where and not Path(where).expanduser().is_absolute():
            raise UserError(
                f"{name}: '{where}' is relative, which in a submitted job means Ray's copy of the "
                "folder; give an absolute path or a URI that all machines of the cluster reach"
            )


def _required(name: str, values: Mapping[str, Any], wrong: Callable[[str, str], UserError]) -> str:
    value = values.get(name)
    if value is None:
        raise wrong(name, f"{name}: is missing")
    if not isinstance(value, str):
        raise wrong(name, f"{name}: should be text")
    return value


def _parsed(path: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The fields of the file, and the line each is on."""
    try:
        text = locate(path).read().decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except UserError:
        raise
    except Exception as error:  # the stores' clients have errors of many kinds
        raise UserError(f"{path} cannot be read: {one_line(error)}") from None
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{path}: should hold fields, `job: caption` and so on")
        lines = _lines(node, path)
        values = {key.value: _value(value, loader) for key, value in node.value}
    except RecursionError:
        raise UserError(f"{path}: a list holds itself, or lies too deep") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise UserError(f"{path}{line}: {problem}") from None
    return {
        name: _expanded(value, f"{path}:{lines[name]}: {name}") for name, value in values.items()
    }, lines


def _lines(node: yaml.MappingNode, path: str) -> dict[str, int]:
    """The line of each field."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{path}:{line}: a field should have a name")
        if key.value in lines:
            raise UserError(f"{path}:{line}: {key.value}: is there twice")
        lines[key.value] = line
    return lines


def _value(node: yaml.Node, loader: yaml.SafeLoader) -> Any:
    """A field's value.

    YAML 1.1 takes `no` for false, which is Norwegian here, and a date for more than text. The
    options take `no` and `off` where they want false.
    """
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, loader) for item in node.value]
    is_word = node.tag in WORDS and node.value.lower() not in ("true", "false")
    if is_word:
        return node.value
    try:
        return loader.construct_object(node, deep=True)
    except (ValueError, TypeError) as error:
        message = f"cannot be read: {one_line(error)}"
        raise yaml.MarkedYAMLError(problem=message, problem_mark=node.start_mark) from None


def _expanded(value: Any, where: str) -> Any:
    """A value with the environment's in the place of `${NAME}`."""
    if isinstance(value, str):
        for name in VARIABLE.findall(value):
            if name not in os.environ:
                raise UserError(f"{where}: the environment has no {name}")
        return VARIABLE.sub(lambda found: os.environ[found[1]], value)
    if isinstance(value, list):
        return [_expanded(item, where) for item in value]
    if isinstance(value, dict):
        return {name: _expanded(item, where) for name, item in value.items()}
    return value
