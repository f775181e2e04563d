"""What can be done with an OUTPUT afterwards: its failed rows again, with the settings it records.

Where a run stands and which rows failed needs no job: `pipeline.status`, `pipeline.failed_rows`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs.captioning.task import CaptionTask
from jobs.moderation.task import ModerationTask
from jobs.translation.task import TranslationTask
from pipeline import RunConfig, RunResult, UserError, retry
from pipeline.output.run_record import read_record
from pipeline.storage.location import locate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from pipeline.contract.task import Task
    from pipeline.storage.location import StorageOptions

TASKS: Mapping[str, Any] = {
    CaptionTask.name: CaptionTask,
    ModerationTask.name: ModerationTask,
    TranslationTask.name: TranslationTask,
}
"""The jobs by the name that a run's record has of them."""


def retry_rows(
    output: str,
    outcomes: Sequence[str],
    *,
    model: str | None = None,
    storage_options: StorageOptions | None = None,
    console: Console | None = None,
    debug: bool = False,
) -> RunResult:
    """Do the rows of an OUTPUT that have one of these outcomes again.

    Input, prompt, model and settings are those that OUTPUT records. The parts stay whole all the
    time; each is replaced once its rows are there.

    Args:
        output: The folder of a run.
        outcomes: Names of outcomes (`decode_error`, `missing_input`, `truncated`, ...).
        model: The model's folder, where it has moved since.
        storage_options: Arguments of fsspec's filesystems, by protocol.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: OUTPUT is not of a run, or an outcome has no such name.
        RunError: Not all rows could be finished.
    """
    where = locate(output, storage_options)
    record = read_record(where)
    if record is None:
        raise UserError(f"{where} is not the OUTPUT of a run: it has no record of one")
    config = RunConfig.model_validate(
        {**record["config"], "output": output, "storage_options": storage_options or {}}
    )
    if model is not None:
        engine = config.engine.model_copy(update={"model": model})
        config = config.model_copy(update={"engine": engine})
    return retry(config, _task(record), outcomes, console=console, debug=debug)


def _task(record: Mapping[str, Any]) -> Task:
    if record["task"] not in TASKS:
        raise UserError(f"OUTPUT was made by the task '{record['task']}', which is not one of ours")
    task: Task = TASKS[record["task"]](**record["settings"])
    return task
