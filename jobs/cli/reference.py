"""Writes the files made from the jobs' options: `python -m jobs.cli.reference` (`make reference`).

    jobs/options/README.md     every option of every job, with its default and where it goes
    jobs/cli/README.md         the help of every other command, and the exit codes
    jobs/sdk/functions.pyi     the functions' signatures, for editors and type checkers

A test fails if one of them is out of date.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from jobs.cli.app import NAMED, app
from jobs.cli.commands.plan import FROM_FILE
from jobs.options.common import (
    JobOptions,
    default_text,
    destination,
    ordered_fields,
    own_fields,
)
from jobs.registry import JOBS
from jobs.sdk.function import documentation

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from jobs.options.job import Job

STUB = """\
# Written by `make reference` from the jobs' options; do not edit.
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Console

from jobs.sdk.engine import Engine
from pipeline import JsonLog

{functions}"""
FUNCTION = '''\
def {name}(
    input: Any,
    output: str | None = None,
    *,
    engine: Engine | None = None,
    console: Console | JsonLog | None = None,
    debug: bool = False,
{options}
) -> Any:
    """{documentation}
    """
'''
REFERENCE = """\
# Options

Written by `make reference` from the jobs' options; do not edit. Each option has the same name on
the command line (`--max-num-seqs 8`), in a job file (`max_num_seqs: 8`) and in Python
(`max_num_seqs=8`). Lists may be written `de,fr`, mappings `NAME=VALUE,...` or as JSON. An option
goes to the task (what is asked of the model), to each engine, or to the run.

{jobs}
## Every job

{common}"""
COMMANDS = """\
# Commands

Written by `make reference` from the commands; do not edit. A job is a command too, with
[the options of that job](../options/README.md): `gemma3-batch caption INPUT OUTPUT --model MODEL`.

```text
{group}
```
{commands}"""
WIDTH = 80
"""Columns of the commands' help."""


def pages() -> dict[str, str]:
    """The text of each file, by its path in the package `jobs`."""
    functions = "\n".join(_function(job) for job in JOBS.values())
    own = "\n".join(
        f"## {job.name}\n\n{job.help} Adds {job.columns}.\n\n{_table(own_fields(job.options))}"
        for job in JOBS.values()
    )
    common = _table(JobOptions.model_fields)
    return {
        "cli/README.md": _commands(),
        "options/README.md": REFERENCE.format(jobs=own, common=common),
        "sdk/functions.pyi": STUB.format(functions=functions),
    }


def write() -> None:
    """Write the files into the package."""
    for path, text in pages().items():
        Path(str(files("jobs") / path)).write_text(text, encoding="utf-8")


def _commands() -> str:
    group: Any = typer.main.get_command(app)
    plan = group.commands["plan"]
    of_file = plan.get_command(typer.Context(plan), FROM_FILE)
    shown = {name: group.commands[name] for name in NAMED}
    shown |= {"plan": plan, f"plan {FROM_FILE}": of_file}
    commands = "".join(
        f"\n## {name}\n\n```text\n{_help(command, name)}\n```\n" for name, command in shown.items()
    )
    return COMMANDS.format(group=_help(group, ""), commands=commands)


def _help(command: Any, name: str) -> str:
    context = typer.Context(command, info_name=f"gemma3-batch {name}".strip(), terminal_width=WIDTH)
    return "\n".join(line.rstrip() for line in command.get_help(context).strip().splitlines())


def _function(job: Job[Any]) -> str:
    """The function's stub. With an `engine`, `model` is left out, so it is not required."""
    options = "\n".join(
        f"    {name}: {_type(field.annotation)}"
        f"{'' if field.is_required() and name != 'model' else ' = ...'},"
        for name, field in ordered_fields(job.options).items()
    )
    lines = documentation(job).splitlines()
    text = "\n".join([lines[0], *(f"    {line}".rstrip() for line in lines[1:])])
    return FUNCTION.format(name=job.name, options=options, documentation=text)


def _table(fields: Mapping[str, FieldInfo]) -> str:
    table = "| option | default | goes to | what it does |\n| --- | --- | --- | --- |\n"
    for name, field in fields.items():
        default = "required" if field.is_required() else default_text(field)
        shown = default if default in ("required", "on", "off", "") else f"`{default}`"
        table += f"| `{name}` | {shown} | {destination(name)} | {field.description} |\n"
    return table


def _type(kind: Any) -> str:
    """A type as source text; lists and mappings may be given as text too."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        parts = [part for one in arguments for part in _type(one).split(" | ")]
        return " | ".join(dict.fromkeys(parts))
    if origin is None:
        return {type(None): "None", Any: "Any"}.get(kind) or str(kind.__name__)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    is_mapping = issubclass(origin, Mapping)
    values = _type(arguments[1 if is_mapping else 0]).split(" | ")[0]
    return f"Mapping[str, {values}] | str" if is_mapping else f"Sequence[{values}] | str"


if __name__ == "__main__":
    write()
