"""Job files: a job, its input, output and options in YAML.

    job: caption
    input: s3://bucket/images
    output: s3://bucket/captions
    model: /models/gemma-3-4b-it
    language: fr

`task: my_package.my_module:MyTask`, in place of `job`, names a user's own task or job. Options have
the same names as on the command line and in Python. `${NAME}` in a value is replaced from the
environment. Error messages name the file and the line.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from jobs.options.check import OptionError, unknown
from jobs.options.yaml_values import Loader, text_of
from jobs.registry import find_job, load_job
from jobs.sdk.assembly import ConfiguredJob, configure
from pipeline import UserError
from pipeline.contract.config import describe_fault
from pipeline.contract.errors import one_line
from pipeline.storage.access import check_access
from pipeline.storage.location import locate

if TYPE_CHECKING:
    from jobs.options.job import Job

OWN = ("job", "task", "input", "output")
"""Fields that are not options. A file has one of the first two."""
SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray (2.60) in a process that `ray job submit` starts. Undocumented, but there is no public
way to ask; no issue found."""
QUOTED = re.compile(r"'([^']+)'")
FIRST_WORD = re.compile(r"\w*")
VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, kw_only=True)
class JobFile:
    """A checked job file.

    Attributes:
        input: Path or URI of the rows.
        output: Path or URI of the folder for the results.
        job: The job, with its options.
        path: Path or URI of the file.
        lines: The line of each field.
        texts: The field that has a text as its value, by the text.
    """

    input: str
    output: str
    job: ConfiguredJob
    path: str = ""
    lines: Mapping[str, int] = dataclass_field(default_factory=dict)
    texts: Mapping[str, str] = dataclass_field(default_factory=dict)

    @contextlib.contextmanager
    def naming_lines(self) -> Iterator[None]:
        """Add the file and the line to an error that begins with a field's name.

        Raises:
            UserError: Instead of a UserError or ValidationError within the `with` block.
        """
        try:
            yield
        except (UserError, ValidationError) as error:
            message = describe_fault(error) if isinstance(error, ValidationError) else str(error)
            line = self.lines.get(self._field_of(message))
            place = "" if line is None else f"{self.path}:{line}: "
            raise UserError(place + message) from error

    def _field_of(self, message: str) -> str:
        """The field that a message is about: it quotes its value, or begins with its name."""
        quoted = (self.texts[text] for text in QUOTED.findall(message) if text in self.texts)
        word = FIRST_WORD.match(message)
        return next(quoted, word[0].lower() if word else "")


def read_job_file(path: str) -> JobFile:
    """Read and check a job file.

    Args:
        path: A path or a URI.

    Raises:
        UserError: It cannot be read or is wrong; names the file, the line and the field.
    """
    values, lines = _parse(path)

    def fault(name: str, message: str) -> UserError:
        return UserError(f"{path}:{lines.get(name, 1)}: {message}")

    job = _find_job(values, fault)
    options = {name: value for name, value in values.items() if name not in OWN}
    for name in options:
        if name not in job.options.model_fields:
            known = [*OWN, *job.options.model_fields]
            raise fault(name, f"{name}: {unknown(name, known, 'option')}")
    files = {name: _required(name, values, fault) for name in ("input", "output")}
    try:
        configured = configure(job, options)
    except OptionError as error:
        raise fault(error.option, str(error)) from None
    texts = {value: name for name, value in options.items() if isinstance(value, str)}
    return JobFile(job=configured, path=path, lines=lines, texts=texts, **files)


def _find_job(values: Mapping[str, Any], fault: Callable[[str, str], UserError]) -> Job[Any]:
    """The job that the field `job` or `task` names."""
    if "task" in values and "job" in values:
        raise fault("task", "task: replaces job; give one of the two")
    field = "task" if "task" in values else "job"
    name = _required(field, values, fault)
    try:
        return load_job(name) if field == "task" else find_job(name)
    except UserError as error:
        raise fault(field, f"{field}: {error}") from error


def check_reachable(job: JobFile) -> None:
    """Refuse relative paths in a submitted job.

    Ray runs a submitted job in its own copy of the folder, usually on the head node.

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


def _required(name: str, values: Mapping[str, Any], fault: Callable[[str, str], UserError]) -> str:
    value = values.get(name)
    if value is None:
        raise fault(name, f"{name}: is missing")
    if not isinstance(value, str):
        raise fault(name, f"{name}: should be text")
    return value


def _parse(path: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The fields of the file, and the line of each."""
    try:
        where = locate(path)
        check_access(where, "job file")
        text = where.read().decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name a job file") from None
    except UserError:
        raise
    except Exception as error:  # each store's client raises its own kinds
        raise UserError(f"{path} cannot be read: {one_line(error)}") from None
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{path}: should hold fields, `job: caption` and so on")
        lines = _lines(node, path)
        values = _fields(node, loader)
    except RecursionError:
        raise UserError(f"{path}: a list contains itself, or is nested too deeply") from None
    except yaml.reader.ReaderError as error:
        number, character = 1 + text.count("\n", 0, error.position), f"U+{error.character:04X}"
        raise UserError(
            f"{path}:{number}: the character {character} cannot be in YAML; remove it"
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise UserError(f"{path}{line}: {problem}") from None
    return {
        name: _expand(value, f"{path}:{lines[name]}: {name}") for name, value in values.items()
    }, lines


def _lines(node: yaml.MappingNode, path: str) -> dict[str, int]:
    """The line of each field. Raises UserError for a field without a name, or there twice."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{path}:{line}: a field should have a name")
        if key.value in lines:
            raise UserError(f"{path}:{line}: {key.value}: is there twice")
        lines[key.value] = line
    return lines


def _fields(node: yaml.MappingNode, loader: Loader) -> dict[str, Any]:
    return {key.value: _value(value, loader) for key, value in node.value}


def _value(node: yaml.Node, loader: Loader) -> Any:
    """A field's value.

    `no` stays text, also in a list and in the fields of a list's entries. In other mappings, as of
    `engine_args`, nothing is known of the values, and it is false as in YAML 1.1.
    """
    if isinstance(node, yaml.SequenceNode):
        return [_item(item, loader) for item in node.value]
    text = text_of(node)
    if text is not None:
        return text
    try:
        return loader.construct_object(node, deep=True)
    except (ValueError, TypeError) as error:
        message = f"cannot be read: {one_line(error)}"
        raise yaml.MarkedYAMLError(problem=message, problem_mark=node.start_mark) from None


def _item(node: yaml.Node, loader: Loader) -> Any:
    """A list's item; one that is a mapping has fields as the file has."""
    if not isinstance(node, yaml.MappingNode):
        return _value(node, loader)
    loader.flatten_mapping(node)
    return _fields(node, loader)


def _expand(value: Any, where: str) -> Any:
    """Replace `${NAME}` in a value by the environment variable; `where` begins an error."""
    if isinstance(value, str):
        for name in VARIABLE.findall(value):
            if name not in os.environ:
                raise UserError(f"{where}: the environment has no {name}")
        return VARIABLE.sub(lambda found: os.environ[found[1]], value)
    if isinstance(value, list):
        return [_expand(item, where) for item in value]
    if isinstance(value, dict):
        return {name: _expand(item, where) for name, item in value.items()}
    return value
