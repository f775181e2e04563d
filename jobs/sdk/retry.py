"""Computes failed rows again, with the task and the settings that OUTPUT records.

`pipeline.status` and `pipeline.failed_rows`, which need no task, report what failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs.registry import find_job, job_names, load_job
from pipeline import RunConfig, RunResult, UserError, retry
from pipeline.contract.errors import one_line
from pipeline.output.run_record import read_record
from pipeline.storage.location import locate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from pipeline.contract.task import Task
    from pipeline.storage.location import StorageOptions


def retry_rows(
    output: str,
    outcomes: Sequence[str],
    *,
    model: str | None = None,
    storage_options: StorageOptions | None = None,
    console: Console | None = None,
    debug: bool = False,
) -> RunResult:
    """Compute the rows of an OUTPUT that have one of these outcomes again.

    Input, prompt, model and settings are those that OUTPUT records. Each part is replaced as a
    whole once its rows are done, so OUTPUT can be read at any time.

    Args:
        output: The folder of a run.
        outcomes: Names of outcomes (`decode_error`, `missing_input`, `truncated`, ...).
        model: The model's folder, if it has moved since.
        storage_options: Arguments of fsspec's filesystems, by protocol.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: OUTPUT is not a run's, or there is no such outcome.
        RunError: Not all rows could be finished.
    """
    where = locate(output, storage_options)
    record = read_record(where)
    if record is None:
        raise UserError(f"{where} is not the OUTPUT of a run: it has no run record")
    config = RunConfig.model_validate(
        {**record["config"], "output": output, "storage_options": storage_options or {}}
    )
    if model is not None:
        engine = config.engine.model_copy(update={"model": model})
        config = config.model_copy(update={"engine": engine})
    return retry(config, restore_task(record), outcomes, console=console, debug=debug)


def restore_task(record: Mapping[str, Any]) -> Task:
    """Make the task of a run again, from the run's record.

    Raises:
        UserError: There is no job of that name and the task's class cannot be imported, or the
            recorded settings do not fit it.
    """
    name, place = record["task"], record.get("task_class", "")
    if name in job_names():
        job = find_job(name)
    elif place.partition(":")[0] in ("", "__main__"):
        raise UserError(
            f"OUTPUT was made by the task '{name}', which is not a known job and was defined in a "
            "script; call pipeline.retry from that script"
        )
    else:
        job = load_job(place)
    try:
        return job.restore(**record["settings"])
    except Exception as error:  # a user's constructor can raise anything
        raise UserError(
            f"the task '{name}' cannot be made from the settings that OUTPUT records: "
            f"{one_line(error)}"
        ) from error
