"""What a job is: a name, its options, and the task that is built from them.

From one `Job` come its command, its form in a job file, its function in Python, and its part of the
options' reference. A job of one's own is a `Job`, or simply a class that follows `pipeline.Task`:
the parameters of its constructor are then its options.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_origin

from pydantic import BeforeValidator, Field, create_model

from jobs.options.common import JobOptions
from jobs.options.values import listed, mapped
from pipeline import UserError

if TYPE_CHECKING:
    from jobs.options.model import Model
    from pipeline import Task

Options = TypeVar("Options", bound=JobOptions)

DOCUMENTED = re.compile(r"^ +(\w+)(?: \([^)]*\))?: (.+(?:\n {8,}.+)*)", re.MULTILINE)
"""A line of the `Args:` or `Attributes:` of a docstring in Google style."""


@dataclass(frozen=True, kw_only=True)
class Job(Generic[Options]):
    """A job that can be run by its name.

    Attributes:
        name: Of the command, and after `job:` in a job file.
        help: What it does, in one line.
        columns: Which columns it adds to a row, for the documentation.
        options: What a user may set; fields that the engine's and the run's configuration do not
            have are for `build`.
        build: Makes the task. Raises UserError where options exclude each other or name something
            that does not exist.
        restore: Makes the task again from the `settings` that it once had, for `retry`.
    """

    name: str
    help: str
    options: type[Options]
    build: Callable[[Options, Model], Task]
    restore: Callable[..., Task]
    columns: str = ""


def job_of(target: object, name: str | None = None) -> Job[Any]:
    """A job from what a user names: a `Job`, a class of tasks, or a task.

    Args:
        target: The object.
        name: What the job is called; by default what the task is called.

    Raises:
        UserError: It is none of the three, or a parameter of the class cannot be an option.
    """
    if isinstance(target, Job):
        return target
    for method in ("prepare", "result"):
        if not callable(getattr(target, method, None)):
            raise UserError(
                f"{target!r:.80} is no task: it has no '{method}'; see pipeline.Task, or name a "
                "jobs.Job"
            )
    if inspect.isclass(target):
        return _job_of_class(target, name)
    task: Any = target
    return Job(
        name=name or task.name,
        help=_first_line(task),
        options=JobOptions,
        build=lambda *_: task,
        restore=lambda **_: task,
    )


def _job_of_class(task: type[Any], name: str | None) -> Job[Any]:
    own = _own_options(task)
    given_name = name or getattr(task, "name", None)
    options = create_model(f"{task.__name__}Options", __base__=JobOptions, **own)

    def made(chosen: JobOptions) -> Task:
        instance: Task = task(**{option: getattr(chosen, option) for option in own})
        return instance

    def restored(**settings: object) -> Task:
        # Through the options, which make of JSON what the constructor expects. What a task records
        # beyond its parameters is compared by the run.
        known = {name: value for name, value in settings.items() if name in own}
        return made(options(model="-", **known))

    return Job(
        name=given_name if isinstance(given_name, str) else task.__name__.lower(),
        help=_first_line(task),
        options=options,
        build=lambda chosen, _: made(chosen),
        restore=restored,
    )


def _own_options(task: type[Any]) -> dict[str, Any]:
    """The parameters of a constructor as fields: annotation and default, described by the docs."""
    hints = typing.get_type_hints(task.__init__, include_extras=True)
    described = {
        found[1]: " ".join(found[2].split())
        for found in DOCUMENTED.finditer(inspect.getdoc(task) or "")
    }
    own: dict[str, Any] = {}
    for name, parameter in inspect.signature(task).parameters.items():
        if name in JobOptions.model_fields:
            raise UserError(
                f"{task.__name__}: its parameter '{name}' is called as an option of every job; "
                "rename it"
            )
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UserError(f"{task.__name__}: '*{name}' cannot be an option; name each parameter")
        facts: dict[str, Any] = {"description": described[name]} if name in described else {}
        if parameter.default is not parameter.empty:
            facts["default"] = parameter.default
        own[name] = (_readable(hints.get(name, Any)), Field(**facts))
    return own


def _readable(kind: Any) -> Any:
    """The type of an option; lists and mappings can be text as well."""
    origin = get_origin(kind)
    if origin in (list, tuple, Sequence):
        return Annotated[kind, BeforeValidator(listed)]
    if origin in (dict, Mapping):
        return Annotated[kind, BeforeValidator(mapped)]
    return kind


def _first_line(target: object) -> str:
    return (inspect.getdoc(target) or "").partition("\n")[0]
