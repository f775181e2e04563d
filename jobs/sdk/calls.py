"""What the call of a job's function does with files, and with data in memory.

    input                            result
    files (a path or a URI)          files in `output`; returns a `RunResult`
    data in memory, no `output`      returns the same kind of data with the new columns, in order
    data in memory, with `output`    as for files; the data is first written to `output` + "-input"
    a `ray.data.Dataset`             returns a `ray.data.Dataset` that reads the results lazily

`memory` turns data into files, `assembly` options into a run.
"""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.sdk.assembly import ConfiguredJob, configure
from jobs.sdk.memory import (
    count_rows,
    is_ray_dataset,
    is_uri,
    new_columns,
    rows_of,
    with_absolute_paths,
    write_ray_dataset,
    write_rows,
)
from pipeline import ColumnKind, RunResult, UserError, run
from pipeline.contract.record import ADDED
from pipeline.output.parts import open_parts_in_ray
from pipeline.sources.columns import check_columns
from pipeline.storage.location import locate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from jobs.options.job import Job
    from jobs.sdk.engine import Engine
    from pipeline import Task

STAGED = "-input"
"""Suffix to OUTPUT of the folder to which data in memory is written."""


def run_job(
    job: ConfiguredJob,
    input: str,  # noqa: A002
    output: str,
    *,
    engine: Engine | None = None,
    console: Console | None = None,
    debug: bool = False,
) -> RunResult:
    """Run a job over files.

    Args:
        job: The job and its options.
        input: Path or URI of the rows.
        output: Path or URI of the folder for the results.
        engine: A warm engine to run on.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: The configuration or the input must be fixed.
        RunError: The run could not be finished; the same call continues it.
    """
    config, task = job.run_config(input, output), job.task()
    if engine is None:
        return run(config, task, console=console, debug=debug)
    return run(
        engine.configured(config),
        task,
        backend=engine.backend,
        console=console,
        debug=debug,
    )


def call(
    job: Job[Any],
    settings: Mapping[str, Any],
    source: Any,
    output: str | None = None,
    *,
    engine: Engine | None = None,
    console: Console | None = None,
    debug: bool = False,
) -> Any:
    """Run a job over files or over data in memory, as described in the module.

    Args:
        job: The job.
        settings: Its options by name, not checked yet.
        source: The input.
        output: The folder for the results; required for files.
        engine: A warm engine to run on; `settings` then have no `model`.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: An option, the input or the output is wrong.
        RunError: The run could not be finished; the same call continues it.
    """
    if engine is not None:
        settings = engine.options(settings)
        engine.check_started()  # now, before anything is written
    configured = configure(job, settings)
    output = None if output is None else str(output)
    how: dict[str, Any] = {"engine": engine, "console": console, "debug": debug}
    if is_uri(source):
        if output is None:
            raise UserError("output: is missing; name a folder for the results of files")
        return run_job(configured, str(source), output, **how)
    if output is not None:
        folder = output.rstrip("/") + STAGED
        return run_job(configured, _stage(configured, source, folder), output, **how)
    if is_ray_dataset(source):
        return _run_over_ray_dataset(configured, source, how)
    return _run_in_memory(configured, source, how)


def _stage(job: ConfiguredJob, source: Any, folder: str) -> str:
    """Write data in memory to a folder; returns the path to read."""
    where = locate(folder, job.options.storage_options)
    task = job.task()
    if is_ray_dataset(source):
        if not where.exists():
            write_ray_dataset(source, where)
        elif count_rows(where) != source.count():
            raise UserError(
                f"input: {where} holds other rows, from an earlier call; remove it, or name "
                "another output"
            )
        return folder
    rows = rows_of(source, next(iter(task.columns)))
    table = _prepare_table(rows.table, task, [*task.result_schema.names, *ADDED.names])
    return write_rows(table, table.column_names, where)


def _run_in_memory(job: ConfiguredJob, source: Any, how: Mapping[str, Any]) -> Any:
    with tempfile.TemporaryDirectory(prefix="gemma3-batch-") as folder:
        task = job.task()
        added = new_columns(task.result_schema.names)
        rows = rows_of(source, next(iter(task.columns)), task.columns)
        table = _prepare_table(rows.table, task, added)
        if not table.num_rows:
            schema = pa.schema([*task.result_schema, *ADDED])
            return rows.give_back(schema.empty_table().select(added))
        file = write_rows(table, [*task.columns], locate(f"{folder}/in"))
        done = run_job(job, file, f"{folder}/out", **how)
        return rows.give_back(done.table(added))


def _prepare_table(table: pa.Table, task: Task, added: Sequence[str]) -> pa.Table:
    """Check the columns, and make null columns and relative paths readable from a file.

    Raises:
        UserError: A column is missing, or has the name of one that is added.
    """
    for place, field in enumerate(table.schema):
        if field.name in task.columns and pa.types.is_null(field.type):
            table = table.set_column(place, field.name, table[place].cast(pa.string()))
    check_columns(table.schema, task.columns)
    taken = next((name for name in table.column_names if name in added), None)
    if taken is not None:
        raise UserError(f"input: has a column '{taken}', which the job adds itself; rename it")
    kinds = task.columns.items()
    images = [name for name, kind in kinds if kind in (ColumnKind.IMAGE, ColumnKind.IMAGES)]
    return with_absolute_paths(table, images)


def _run_over_ray_dataset(job: ConfiguredJob, source: Any, how: Mapping[str, Any]) -> Any:
    """Run over a Ray dataset. The temporary folder stays, since the results are read lazily."""
    folder = tempfile.mkdtemp(prefix="gemma3-batch-")
    try:
        write_ray_dataset(source, locate(f"{folder}/in"))
        done = run_job(job, f"{folder}/in", f"{folder}/out", **how)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return open_parts_in_ray(locate(done.output))
