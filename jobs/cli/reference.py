"""Writes what is made from the jobs' options: `python -m jobs.cli.reference` (`make reference`).

    jobs/options/README.md     every option of every job, with its default and where it goes
    jobs/sdk/functions.pyi     the functions' signatures, for editors and type checkers

A test fails where one of them is not what the options say.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic_core import PydanticUndefined

from jobs.options.common import JobOptions, destination, ordered_fields
from jobs.registry import JOBS
from jobs.sdk.function import documentation

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from jobs.job import Job

STUB = """\
# Written by `make reference` from the jobs' options; do not edit.
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Console

from jobs.sdk.engine import Engine

{functions}"""
FUNCTION = '''\
def {name}(
    input: Any,
    output: str | None = None,
    *,
    engine: Engine | None = None,
    console: Console | None = None,
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


def pages() -> dict[str, str]:
    """What is written, by its path below the package `jobs`."""
    functions = "\n".join(_function(job) for job in JOBS.values())
    own = "\n".join(_own(job) for job in JOBS.values())
    common = _table(JobOptions.model_fields)
    return {
        "options/README.md": REFERENCE.format(jobs=own, common=common),
        "sdk/functions.pyi": STUB.format(functions=functions),
    }


def write() -> None:
    """Write the pages into the package."""
    for path, text in pages().items():
        Path(str(files("jobs") / path)).write_text(text, encoding="utf-8")


def _function(job: Job[Any]) -> str:
    options = "\n".join(
        f"    {name}: {_type(field.annotation)}{_stub_default(name, field)},"
        for name, field in ordered_fields(job.options).items()
    )
    lines = documentation(job).splitlines()
    text = "\n".join([lines[0], *(f"    {line}".rstrip() for line in lines[1:])])
    return FUNCTION.format(name=job.name, options=options, documentation=text)


def _stub_default(name: str, field: FieldInfo) -> str:
    if name == "model":  # with an `engine` it is left out
        return " = ..."
    return "" if field.is_required() else " = ..."


def _own(job: Job[Any]) -> str:
    fields = {
        name: field
        for name, field in job.options.model_fields.items()
        if name not in JobOptions.model_fields
    }
    return f"## {job.name}\n\n{job.help} Adds {job.columns}.\n\n{_table(fields)}"


def _table(fields: Mapping[str, FieldInfo]) -> str:
    rows = (
        f"| `{name}` | {_shown_default(field)} | {destination(name)} | {field.description} |\n"
        for name, field in fields.items()
    )
    return "| option | default | goes to | what it does |\n| --- | --- | --- | --- |\n" + "".join(
        rows
    )


def _shown_default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required"
    if default is None or default in ((), {}):
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"`{','.join(default) if isinstance(default, tuple) else default}`"


def _type(kind: Any) -> str:
    """A type as source; lists and mappings may be given as text too."""
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
    values = _type(arguments[1]).split(" | ")[0] if is_mapping else "str"
    return f"Mapping[str, {values}] | str" if is_mapping else f"Sequence[{values}] | str"


if __name__ == "__main__":
    write()
