"""What a job is: a name, its options, and how a task is built from them.

A `Job` is all that its command, its form in a job file, its Python function and its section of the
options' reference need. A user's own job is a `Job`, or just a class that follows `pipeline.Task`:
the parameters of its constructor are then the options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pyarrow as pa
from pydantic import create_model

from jobs.options.common import JobOptions
from jobs.options.constructor import check_name, constructor_options
from pipeline import ColumnKind, UserError
from pipeline.contract.errors import one_line
from pipeline.contract.record import ADDED

if TYPE_CHECKING:
    from pydantic import BaseModel

    from jobs.options.model import Model
    from pipeline import Task

Options = TypeVar("Options", bound=JobOptions)


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
        return _checked_job(target)
    for method in ("prepare", "result"):
        if not callable(getattr(target, method, None)):
            raise UserError(
                f"{target!r:.80} is not a task: it has no '{method}'; see pipeline.Task, or name a "
                "jobs.Job"
            )
    if inspect.isclass(target):
        return _job_of_class(target, name)
    task: Any = target
    check_task(task)
    return Job(
        name=name or task.name,
        help=_first_line(type(task)),
        options=JobOptions,
        build=lambda *_: task,
        restore=lambda **_: task,
    )


def check_task(task: Task) -> None:
    """Check that a task has what the pipeline asks it for, before anything depends on it.

    Raises:
        UserError: It lacks something, or that is not what `pipeline.Task` says.
    """
    kinds = {"name": str, "columns": Mapping, "result_schema": pa.Schema, "settings": Mapping}
    found: dict[str, Any] = {}
    for attribute, kind in kinds.items():
        wrong = f"{type(task).__name__}: its '{attribute}' should be a {kind.__name__}"
        try:
            found[attribute] = getattr(task, attribute)
        except Exception as error:  # whatever somebody's property raises
            raise UserError(f"{wrong}: {one_line(error)}") from error
        if not isinstance(found[attribute], kind):
            raise UserError(f"{wrong}, not a {type(found[attribute]).__name__}")
    if not found["columns"] or any(kind not in [*ColumnKind] for kind in found["columns"].values()):
        raise UserError(
            f"{type(task).__name__}: its 'columns' should be columns of the input, each with one "
            f"of {', '.join(f'ColumnKind.{kind.name}' for kind in ColumnKind)}"
        )
    names = [*found["result_schema"].names, *ADDED.names]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"{type(task).__name__}: an output has one column '{twice}'; rename that of its "
            "'result_schema'"
        )


def _checked_job(job: Job[Any]) -> Job[Any]:
    if not (inspect.isclass(job.options) and issubclass(job.options, JobOptions)):
        raise UserError(f"job '{job.name}': its options should be a subclass of JobOptions")
    for name in job.options.model_fields.keys() - JobOptions.model_fields.keys():
        check_name(name, f"job '{job.name}': its option")
    return job


def _job_of_class(task: type[Any], name: str | None) -> Job[Any]:
    own = constructor_options(task)
    given_name = name or getattr(task, "name", None)

    def made(chosen: BaseModel) -> Task:
        given = {option: getattr(chosen, option) for option in chosen.model_fields_set & {*own}}
        try:
            instance: Task = task(**given)
        except UserError:
            raise
        except Exception as error:  # whatever somebody's constructor raises
            raise UserError(f"{task.__name__} cannot be made: {one_line(error)}") from error
        return instance

    # As strict as the options, but it leaves texts as they were recorded, empty ones too.
    recorded = create_model(f"{task.__name__}Settings", **own)

    def restored(**settings: object) -> Task:
        # Through a model, which makes of JSON what the constructor expects. What a task records
        # beyond its parameters is compared by the run.
        return made(recorded(**{name: settings[name] for name in settings if name in own}))

    return Job(
        name=given_name if isinstance(given_name, str) else task.__name__.lower(),
        help=_first_line(task),
        options=create_model(f"{task.__name__}Options", __base__=JobOptions, **own),
        build=lambda chosen, _: made(chosen),
        restore=restored,
    )


def _first_line(task: type[Any]) -> str:
    """Of its own docstring, unless that is what a dataclass writes itself: its signature."""
    docstring = inspect.cleandoc(task.__doc__ or "")
    return "" if docstring.startswith(f"{task.__name__}(") else docstring.partition("\n")[0]
