"""How a name leads to a job or a model, and how a user's own job is found.

A user's own job is found by the import path of its `Job` or task (`my_package.my_module:MyTask`),
or by a name that an installed package declares in the entry-point group `gemma3_batch.jobs`:

    [project.entry-points."gemma3_batch.jobs"]
    classify = "my_package.my_module:Classify"
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from jobs import captioning, moderation, translation
from jobs.options.check import unknown
from jobs.options.job import Job, job_of
from jobs.options.model import Model
from pipeline import UserError
from pipeline.contract.errors import one_line
from pipeline.engine.model_files import BUNDLED

JOBS: Mapping[str, Job[Any]] = {
    job.name: job for job in (captioning.JOB, translation.JOB, moderation.JOB)
}
"""The jobs that come with the package."""
GROUP = "gemma3_batch.jobs"
DEMO = "demo"


def job_names() -> list[str]:
    """The names of all jobs. Those that other packages declare are not imported."""
    return [*JOBS, *_declared()]


def find_job(name: str) -> Job[Any]:
    """The job of that name.

    Raises:
        UserError: There is none, or the package that declares it cannot be imported.
    """
    if name in JOBS:
        return JOBS[name]
    declared = _declared()
    if name not in declared:
        raise UserError(f"'{name}': {unknown(name, job_names(), 'job')}")
    places = sorted(declared[name])
    if len(places) > 1:
        raise UserError(
            f"'{name}' is declared by several packages: {', '.join(places)}; uninstall all but one"
        )
    try:
        target = declared[name][places[0]].load()
    except (Exception, SystemExit) as error:  # importing it can raise anything
        raise UserError(f"{places[0]} cannot be loaded: {one_line(error)}") from error
    return job_of(target, name)


def load_job(path: str) -> Job[Any]:
    """The job at an import path, `package.module:Name`: a `Job`, a task class or a task.

    Modules in the current folder are found too, as with `python -m`.

    Raises:
        UserError: It does not exist, cannot be imported, or is none of the three.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise UserError(f"'{path}' should be package.module:Name")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        target: Any = importlib.import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
    except (Exception, SystemExit) as error:  # importing a user's module can raise anything
        is_absent = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(
            f"{error.name}."
        )
        hint = "; run it in the module's folder, or name that in PYTHONPATH" if is_absent else ""
        raise UserError(f"'{path}' cannot be loaded: {one_line(error)}{hint}") from error
    return job_of(target)


def find_model(name: str) -> Model:
    """The model that `--model` names: `demo`, or a folder, whose contents are not checked here."""
    if name != DEMO:
        return Model(path=name)
    from jobs.demo.phrases import CAPTION_PROMPT, MODERATION_PROMPT, POLICIES

    return Model(
        path=str(BUNDLED[DEMO]),
        dtype="float32",  # `auto` would run it in bfloat16, with fewer exact answers
        caption_prompt=CAPTION_PROMPT,
        moderation_prompt=MODERATION_PROMPT,
        policies={policy.name: policy.text for policy in POLICIES},
    )


def _declared() -> dict[str, dict[str, EntryPoint]]:
    """Jobs that installed packages declare, by name and place; none that has a name of ours."""
    declared: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        if point.name not in JOBS:
            declared.setdefault(point.name, {})[point.value] = point
    return declared
