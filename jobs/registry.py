"""Which jobs and models have a name, and where a job of one's own is found.

A job of one's own is found by the place of its `Job` or task (`my_package.my_module:MyTask`), or by
a name that its package declares as an entry point of the group `gemma3_batch.jobs`:

    [project.entry-points."gemma3_batch.jobs"]
    classify = "my_package.my_module:Classify"
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from typing import Any

from jobs import captioning, moderation, translation
from jobs.job import Job, job_of
from jobs.options.model import Model
from pipeline import UserError
from pipeline.contract.errors import one_line
from pipeline.contract.suggest import suggestion

JOBS: Mapping[str, Job[Any]] = {
    job.name: job for job in (captioning.JOB, translation.JOB, moderation.JOB)
}
"""The jobs that come with the package."""
GROUP = "gemma3_batch.jobs"
DEMO = "demo"


def job_names() -> list[str]:
    """The names of all jobs; those that installed packages declare are not imported for it."""
    return [*JOBS, *_declared()]


def find_job(name: str) -> Job[Any]:
    """The job of that name. Raises UserError where there is none, or it cannot be imported."""
    if name in JOBS:
        return JOBS[name]
    declared = _declared()
    if name not in declared:
        near = suggestion(name, job_names())
        raise UserError(f"there is no '{name}'; {near}they are {', '.join(job_names())}")
    places = sorted(declared[name])
    if len(places) > 1:
        raise UserError(
            f"'{name}' is declared by several packages: {', '.join(places)}; uninstall all but one"
        )
    try:
        target = declared[name][places[0]].load()
    except (Exception, SystemExit) as error:  # whatever importing somebody's module raises
        raise UserError(f"{places[0]} cannot be loaded: {one_line(error)}") from error
    return job_of(target, name)


def load_job(place: str) -> Job[Any]:
    """The job, the class of tasks or the task that `package.module:Name` says.

    Modules in the current folder are found too, as `python -m` finds them.

    Raises:
        UserError: It is not there, cannot be imported, or is no task.
    """
    module, _, name = place.partition(":")
    if not module or not name:
        raise UserError(f"'{place}' should be package.module:Name")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        target: Any = importlib.import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
    except (Exception, SystemExit) as error:  # whatever importing somebody's module raises
        is_absent = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(
            f"{error.name}."
        )
        hint = "; run it in the module's folder, or name that in PYTHONPATH" if is_absent else ""
        raise UserError(f"'{place}' cannot be loaded: {one_line(error)}{hint}") from error
    return job_of(target)


def find_model(name: str) -> Model:
    """What a name after `--model` means: `demo`, or a folder, which is not looked at here."""
    if name != DEMO:
        return Model(path=name)
    from jobs.demo.phrases import CAPTION_PROMPT, MODERATION_PROMPT, POLICIES

    return Model(
        path=str(files("jobs.demo") / "checkpoint"),
        dtype="float32",  # `auto` would run it in bfloat16, with fewer exact answers
        caption_prompt=CAPTION_PROMPT,
        moderation_prompt=MODERATION_PROMPT,
        policies={policy.name: policy.text for policy in POLICIES},
    )


def _declared() -> dict[str, dict[str, EntryPoint]]:
    """The jobs of other installed packages by name and place; ours keep their names."""
    declared: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        if point.name not in JOBS:
            declared.setdefault(point.name, {})[point.value] = point
    return declared
