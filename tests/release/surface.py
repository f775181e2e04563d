"""The public surface as text: `python -m tests.release.surface` (`make reference`) writes it.

    surface.txt    what is public now
    released.txt   what was public in the last release (before the first one: on 2026-11-30)

One thing a line: its kind, its name, and what a user can rely on of it. `test_surface.py` fails
where `surface.txt` is not what the code has, and where a line differs from `released.txt` whose
name the changelog does not mention.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

import jobs
import pipeline
from jobs.cli import exit_codes
from jobs.cli.app import NAMED, app, job_command
from jobs.cli.job_file import OWN
from jobs.options.check import check_options
from jobs.options.common import JobOptions, default_text, own_fields
from jobs.options.model import Model
from jobs.registry import GROUP, JOBS, find_model
from pipeline import Outcome
from pipeline.contract.record import ADDED

SURFACE = Path(__file__).with_name("surface.txt")
RELEASED = Path(__file__).with_name("released.txt")
GIVEN: dict[str, dict[str, Any]] = {"translate": {"to": "de"}}
"""Options with which the columns of a job are shown."""
KINDS = (
    "argument ", "column ", "command ", "entry points ", "exit code ", "function ",
    "job file field ", "method ", "name ", "option ", "outcome ",
)  # fmt: skip
PLAIN = (str, int, float, bool, tuple, type(None))


def lines() -> list[str]:
    """The surface as it is, sorted."""
    found = [*_commands(), *_options(), *_columns(), *_python()]
    found += [f"exit code {code} {name}" for code, name in _codes().items()]
    found += [f"outcome {outcome.value}" for outcome in Outcome]
    found += [f"job file field {name}" for name in OWN]
    found += [f"entry points {GROUP}"]
    return sorted(found)


def name_of(line: str) -> str:
    """What the changelog calls the thing of a line: `--style` of `option caption --style = alt`."""
    kind = next(kind for kind in KINDS if line.startswith(kind))
    words = line.removeprefix(kind).split()
    if kind == "exit code ":
        return f"exit code {words[0]}"
    name = words[1] if kind in ("option ", "argument ") else words[0]
    return name.partition("(")[0].partition("/")[0].removeprefix("jobs.").removeprefix("pipeline.")


def _codes() -> dict[int, str]:
    codes = {value: name for name, value in vars(exit_codes).items() if type(value) is int}
    return {0: "done", **{code: name.lower() for code, name in codes.items()}}


def _commands() -> Iterator[str]:
    import typer

    group: Any = typer.main.get_command(app)
    yield from (f"option gemma3-batch {'/'.join(p.opts)}" for p in group.params)
    for name in (*JOBS, *NAMED):
        yield f"command {name}"
        command: Any = job_command(name) if name in JOBS else group.commands[name]
        for parameter in command.params:
            if parameter.param_type_name == "argument":
                yield f"argument {name} {parameter.metavar}"
            elif name in NAMED:
                required = ", required" if parameter.required else ""
                yield f"option {name} {'/'.join(parameter.opts)} = {parameter.default}{required}"


def _options() -> Iterator[str]:
    """Options of jobs. A test holds that the command, job files and Python have the same ones."""
    for job, fields in {
        "every job": JobOptions.model_fields,
        **{name: own_fields(job.options) for name, job in JOBS.items()},
    }.items():
        for name, field in fields.items():
            default = "required" if field.is_required() else f"= {default_text(field)}".rstrip()
            yield f"option {job.replace(' ', '-')} --{name.replace('_', '-')} {default}"


def _columns() -> Iterator[str]:
    model = Model(path=find_model("demo").path)  # without prompts and policies of its own
    yield from _fields("every-job", ADDED)
    for name, job in JOBS.items():
        options = check_options(job.options, {"model": model.path, **GIVEN.get(name, {})})
        yield from _fields(name, job.build(options, model).result_schema)


def _fields(job: str, schema: pa.Schema) -> Iterator[str]:
    yield from (f"column {field.name} of {job}: {field.type}" for field in schema)


def _python() -> Iterator[str]:
    for package in (jobs, pipeline):
        for name in package.__all__:
            yield from _named(f"{package.__name__}.{name}", getattr(package, name), name in JOBS)


def _named(path: str, thing: Any, is_job: bool) -> Iterator[str]:
    if not inspect.isclass(thing):
        yield f"function {path}{_parameters(thing, of_options=not is_job)}"
        return
    if issubclass(thing, BaseModel):
        yield from (f"name {path}.{name}" for name in thing.model_fields)
        return
    if issubclass(thing, Enum):
        yield from (f"name {path}.{member.name} = {member.value}" for member in thing)
        return
    if issubclass(thing, Exception):
        yield f"name {path} is a {thing.__base__.__name__}"
        return
    is_interface = getattr(thing, "_is_protocol", False)
    yield f"name {path}" if is_interface else f"function {path}{_parameters(thing)}"
    for name, member in vars(thing).items():
        if isinstance(member, types.FunctionType) and not name.startswith("_"):
            yield f"method {path}.{name}{_parameters(member)}"
        elif isinstance(member, property) and not name.startswith("_"):
            yield f"name {path}.{name}"


def _parameters(thing: Any, *, of_options: bool = True) -> str:
    """Names and defaults; of a job's function without its options, which have lines."""
    found = inspect.signature(thing).parameters.values()
    if not of_options:
        options = set().union(*(job.options.model_fields for job in JOBS.values()))
        found = [parameter for parameter in found if parameter.name not in options]
    return str(inspect.Signature([_plain(parameter) for parameter in found]))


def _plain(parameter: inspect.Parameter) -> inspect.Parameter:
    """Without its type; a default that is no plain value is shown as `...`."""
    default = parameter.default
    is_shown = default is inspect.Parameter.empty or isinstance(default, PLAIN)
    return parameter.replace(
        annotation=inspect.Parameter.empty, default=default if is_shown else Ellipsis
    )


if __name__ == "__main__":
    SURFACE.write_text("\n".join(lines()) + "\n", encoding="utf-8")
