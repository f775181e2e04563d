"""What a job is: a name, its options, and how a task is built from them.

A `Job` is all that its command, its form in a job file, its Python function and its section of the
options' reference need. A user's own job is a `Job`, or just a class that follows `pipeline.Task`:
the parameters of its constructor are then the options.
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
"""An entry under `Args:` or `Attributes:` in a Google-style docstring."""


@dataclass(frozen=True, kw_only=True)
class Job(Generic[Options]):
    """A job that can be run by its name.

    Attributes:
        name: The command, and what stands after `job:` in a job file.
        help: One line about what the job does.
        options: The options a user may set. Those that are fields of the engine's or the run's
            configuration go there; `build` reads the others.
        build: Makes the task. Raises UserError where options contradict each other or name
            something that does not exist.
        restore: Makes the task again from the `settings` in a run's record, for `retry`.
        columns: The columns it adds to a row, for the documentation.
    """

    name: str
    help: str
    options: type[Options]
    build: Callable[[Options, Model], Task]
    restore: Callable[..., Task]
    columns: str = ""


def job_of(target: object, name: str | None = None) -> Job[Any]:
    """Make a job of a `Job`, a task class or a task.

    Args:
        target: The object.
        name: The job's name; by default the task's own.

    Raises:
        UserError: It is none of the three, or a parameter of the class cannot be an option.
    """
    if isinstance(target, Job):
        return target
    for method in ("prepare", "result"):
        if not callable(getattr(target, method, None)):
            raise UserError(
                f"{target!r:.80} is not a task: it has no '{method}'; see pipeline.Task, or name a "
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
    fields = _fields_of(task)
    given_name = name or getattr(task, "name", None)
    options = create_model(f"{task.__name__}Options", __base__=JobOptions, **fields)

    def build(chosen: JobOptions) -> Task:
        instance: Task = task(**{option: getattr(chosen, option) for option in fields})
        return instance

    def restore(**settings: object) -> Task:
        # Through the options, which turn JSON into what the constructor expects. Settings that
        # are not parameters are left out; the run compares them anyway.
        known = {name: value for name, value in settings.items() if name in fields}
        return build(options(model="-", **known))

    return Job(
        name=given_name if isinstance(given_name, str) else task.__name__.lower(),
        help=_first_line(task),
        options=options,
        build=lambda chosen, _: build(chosen),
        restore=restore,
    )


def _fields_of(task: type[Any]) -> dict[str, Any]:
    """A constructor's parameters as pydantic fields, described by the class's docstring."""
    hints = typing.get_type_hints(task.__init__, include_extras=True)
    descriptions = {
        found[1]: " ".join(found[2].split())
        for found in DOCUMENTED.finditer(inspect.getdoc(task) or "")
    }
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(task).parameters.items():
        if name in JobOptions.model_fields:
            raise UserError(
                f"{task.__name__}: its parameter '{name}' has the name of an option of every job; "
                "rename it"
            )
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UserError(f"{task.__name__}: '*{name}' cannot be an option; name each parameter")
        facts: dict[str, Any] = {"description": descriptions[name]} if name in descriptions else {}
        if parameter.default is not parameter.empty:
            facts["default"] = parameter.default
        fields[name] = (_option_type(hints.get(name, Any)), Field(**facts))
    return fields


def _option_type(annotation: Any) -> Any:
    """An option's type; lists and mappings can also be written as text."""
    origin = get_origin(annotation)
    if origin in (list, tuple, Sequence):
        return Annotated[annotation, BeforeValidator(listed)]
    if origin in (dict, Mapping):
        return Annotated[annotation, BeforeValidator(mapped)]
    return annotation


def _first_line(target: object) -> str:
    return (inspect.getdoc(target) or "").partition("\n")[0]
