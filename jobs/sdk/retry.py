"""Computes failed rows again, with the task and the settings that OUTPUT records.

`pipeline.status` and `pipeline.failed_rows`, which need no task, report what failed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from jobs.registry import JOBS, find_job, job_names, load_job
from pipeline import EngineConfig, RunConfig, RunResult, UserError, retry
from pipeline.contract.config import describe_fault
from pipeline.contract.errors import one_line
from pipeline.output.run_record import class_place, input_of, read_record, why_no_record
from pipeline.storage.access import check_access
from pipeline.storage.location import MEMORY, locate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console

    from jobs.options.job import Job
    from pipeline.contract.task import Task
    from pipeline.execution.display.json_log import JsonLog
    from pipeline.storage.location import StorageOptions


def retry_rows(
    output: str,
    outcomes: Sequence[str],
    *,
    model: str | None = None,
    endpoint: str | None = None,
    join: bool = False,
    storage_options: StorageOptions | None = None,
    console: Console | JsonLog | None = None,
    debug: bool = False,
) -> RunResult:
    """Compute the rows of an OUTPUT that have one of these outcomes again.

    Input, prompt, model and settings are those that OUTPUT records. Each part is replaced as a
    whole once its rows are done, so OUTPUT can be read at any time.

    Args:
        output: The folder of a run.
        outcomes: Names of outcomes (`decode_error`, `missing_input`, `truncated`, ...).
        model: The model's folder, if it has moved since.
        endpoint: The address of the server that answers, if it has moved since.
        join: Work beside another run into the same OUTPUT.
        storage_options: Arguments of fsspec's filesystems, by protocol.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: OUTPUT is not a run's, or there is no such outcome.
        RunError: Not all rows could be finished.
    """
    where = locate(output, storage_options)
    check_access(where, "OUTPUT")
    record = read_record(where)
    if record is None:
        raise UserError(f"{where} is not the OUTPUT of a run: {why_no_record(where)}")
    if record["config"]["input"].startswith(f"{MEMORY}://"):
        raise UserError(
            f"{where} was made from data in memory, which is not kept; call the job's function "
            "with the failed rows and another output"
        )
    config = RunConfig.model_validate(
        {
            **record["config"],
            "input": input_of(record),
            "output": output,
            "join": join,
            "storage_options": storage_options or {},
        }
    )
    moved = {"model": model, "endpoint": endpoint}
    given = {name: value for name, value in moved.items() if value is not None}
    if given:
        engine = EngineConfig.model_validate({**config.engine.model_dump(), **given})
        config = config.model_copy(update={"engine": engine})
    return retry(config, restore_task(record), outcomes, console=console, debug=debug)


def restore_task(record: Mapping[str, Any]) -> Task:
    """Make the task of a run again, from the run's record.

    A job with the task's name makes it, unless that is another task of this name; then its class
    does.

    Raises:
        UserError: There is no job of that name and the task's class cannot be imported, or the
            recorded settings do not fit it.
    """
    name, place = record["task"], record.get("task_class", "")
    if name in JOBS and place.partition(".")[0] in ("", "jobs"):
        return _restored(JOBS[name], record)
    candidates = _candidates(name, place)
    if not candidates:
        raise UserError(
            f"OUTPUT was made by the task '{name}', which is not a known job and was defined in a "
            "script or a function; call pipeline.retry from there"
        )
    tasks: list[Task] = []
    faults: list[UserError] = []
    for find in candidates:
        try:
            tasks.append(_restored(find(), record))
        except UserError as error:
            faults.append(error)
    if not tasks:
        raise UserError(f"OUTPUT was made by the task '{name}': {faults[0]}") from faults[0]
    # If the class has moved since, none of them has the recorded place.
    return next((task for task in tasks if class_place(task) == place), tasks[0])


def _candidates(name: str, place: str) -> list[Callable[[], Job[Any]]]:
    """What may give the job of a task: its name, and the place of its class."""
    candidates: list[Callable[[], Job[Any]]] = []
    if name in job_names() and name not in JOBS:
        candidates.append(partial(find_job, name))
    if place.partition(":")[0] not in ("", "__main__") and "<locals>" not in place:
        candidates.append(partial(load_job, place))
    return candidates


def _restored(job: Job[Any], record: Mapping[str, Any]) -> Task:
    try:
        return job.restore(**record["settings"])
    except Exception as error:  # a user's constructor can raise anything
        fault = describe_fault(error) if isinstance(error, ValidationError) else one_line(error)
        raise UserError(
            f"a '{record['task']}' cannot be made from the settings that OUTPUT records: {fault}"
        ) from error
