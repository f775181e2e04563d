"""Makes a command of a job's options, so that the command line has every option under its name."""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Callable, Collection, Set
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer
from rich.markup import escape

from jobs.options.common import JobOptions, ordered_fields

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Run = Callable[[str, str, dict[str, Any], bool], None]
"""Runs a job: its input, output, the options that were given, and whether to show tracebacks."""

Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="Parquet, images, JSON lines or tar: a file, folder or glob; path or URI.",
    ),
]
Output = Annotated[
    str, typer.Argument(metavar="OUTPUT", help="Folder for the parquet files; path or URI.")
]
COMMON = "Options of every job"
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the workers' output.")]


def command_of(options: type[JobOptions], run: Run) -> Callable[..., None]:
    """A function that typer makes a command of.

    Args:
        options: Whose fields become `--` options.
        run: What is called.
    """

    def command(**given: Any) -> None:
        source, output, debug = (given.pop(name) for name in ("input", "output", "debug"))
        run(source, output, {name: v for name, v in given.items() if v is not None}, debug)

    kinds: dict[str, Any] = {"input": Input, "output": Output}
    defaults: dict[str, Any] = {}
    for name, field in ordered_fields(options).items():
        panel = COMMON if name in JobOptions.model_fields and name != "model" else None
        kinds[name], defaults[name] = _option(name, field, panel)
    kinds, defaults = {**kinds, "debug": Debug}, {**defaults, "debug": False}
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
    """The annotation and the default of one option; None leaves it to the options' model."""
    flag = "--" + name.replace("_", "-")
    kind = _kind(field.annotation)
    if kind is bool:
        flags = flag if field.default is False else f"{flag}/--no-{flag[2:]}"
        option = typer.Option(flags, help=_help(field), rich_help_panel=panel)
        return Annotated[bool | None, option], None
    if field.is_required():
        return Annotated[kind, typer.Option(flag, help=_help(field))], inspect.Parameter.empty
    option = typer.Option(flag, help=_help(field), rich_help_panel=panel)
    return Annotated[kind | None, option], None


def _kind(annotation: Any) -> Any:
    """What typer reads: numbers and choices as they are, all else as text."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        kinds = [part for part in get_args(annotation) if part is not types.NoneType]
        return _kind(kinds[0]) if len(kinds) == 1 else str
    return annotation if annotation in (bool, int, float) or origin is Literal else str


def _help(field: FieldInfo) -> str:
    """The line of help, with the default where it says something; typer reads Rich's markup."""
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    text = field.description or ""
    if default in (None, False, 0, "") or (isinstance(default, Collection) and not default):
        return escape(text)
    return escape(f"{text} [default: {_shown(default)}]".strip())


def _shown(default: object) -> object:
    """A default as it would be given."""
    if isinstance(default, list | tuple | Set):
        return ",".join(str(_shown(item)) for item in default)
    if isinstance(default, enum.Enum):
        return default.value
    return "on" if default is True else default
