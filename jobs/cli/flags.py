"""Makes a job's command from its options: each is a flag of the same name."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from jobs.cli.completion import completing_field
from jobs.cli.console import LOG_FLAG, LOG_VARIABLE, LogForm
from jobs.options.common import JobOptions, default_text, ordered_fields

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Run = Callable[..., None]
"""Runs a job: its input, output, the options that were set, and whether to show tracebacks; then by
name what `command_of` was given more."""

Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="Parquet, images, JSON lines, CSV or tar: a file, folder or glob; path or URI.",
    ),
]
Output = Annotated[
    str, typer.Argument(metavar="OUTPUT", help="Folder for the output files; path or URI.")
]
COMMON = "Options of every job"
OutputOfRun = Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder of a run.")]
StorageOptions = Annotated[
    str | None, typer.Option(help=JobOptions.model_fields["storage_options"].description)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the workers' output.")]
LogFormat = Annotated[
    LogForm,
    typer.Option(
        LOG_FLAG,
        envvar=LOG_VARIABLE,
        help="Progress and errors on stderr as text, or as JSON, one object a line.",
    ),
]


More = Mapping[str, tuple[Any, Any]]
"""Options of a command that are no job's, by name: the annotation and the default of each."""
Confirm = Annotated[
    bool, typer.Option("--confirm", help="Show the plan of the run first, and ask.")
]


def command_of(
    options: type[JobOptions], run: Run, more: More = MappingProxyType({})
) -> Callable[..., None]:
    """Make a function from which typer makes a command.

    Args:
        options: The job's options; each field becomes a flag.
        run: Called with what the user gave.
        more: Further options; `run` gets them by name.
    """

    def command(**given: Any) -> None:
        source, output, debug = (given.pop(name) for name in ("input", "output", "debug"))
        own = {name: given.pop(name) for name in more}
        set_ = {name: v for name, v in given.items() if v not in (None, [])}
        run(source, output, set_, debug, **own)

    kinds: dict[str, Any] = {"input": Input, "output": Output}
    defaults: dict[str, Any] = {}
    for name, field in ordered_fields(options).items():
        panel = COMMON if name in JobOptions.model_fields and name != "model" else None
        kinds[name], defaults[name] = _option(name, field, panel)
    last = {**more, "debug": (Debug, False)}
    kinds |= {name: kind for name, (kind, _) in last.items()}
    defaults |= {name: default for name, (_, default) in last.items()}
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=kind,
            default=defaults.get(name, inspect.Parameter.empty),
        )
        for name, kind in kinds.items()
    ]
    command.__annotations__ = kinds
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _option(name: str, field: FieldInfo, panel: str | None) -> tuple[Any, Any]:
    """The annotation and the default of one option; with None, pydantic sets the real default."""
    flag = "--" + name.replace("_", "-")
    kind = _kind(field.annotation)
    if kind is bool:
        flags = flag if field.default is False else f"{flag}/--no-{flag[2:]}"
        option = typer.Option(flags, help=_help(field), rich_help_panel=panel)
        return Annotated[bool | None, option], None
    if field.is_required():
        return Annotated[kind, typer.Option(flag, help=_help(field))], inspect.Parameter.empty
    completed = completing_field(field)
    option = typer.Option(flag, help=_help(field), rich_help_panel=panel, autocompletion=completed)
    extra = field.json_schema_extra
    if isinstance(extra, dict) and extra.get("may_be_repeated"):
        kind = types.GenericAlias(list, (kind,))
    return Annotated[kind | None, option], None


def _kind(annotation: Any) -> Any:
    """The type for typer: numbers and choices as they are, all else as text."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        kinds = [part for part in get_args(annotation) if part is not types.NoneType]
        return _kind(kinds[0]) if len(kinds) == 1 else str
    return annotation if annotation in (bool, int, float) or origin is Literal else str


def _help(field: FieldInfo) -> str:
    """The line of help, with the default, if it has one that is not empty."""
    text, shown = field.description or "", default_text(field)
    return f"{text} [default: {shown}]".strip() if shown else text
