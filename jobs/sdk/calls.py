"""What a call of a job does: over files, and over what is in memory.

    files (a path or a URI)          results go to `output`; a `RunResult` comes back
    in memory, without `output`      the same kind comes back, with the new columns, in order
    in memory, with `output`         as with files; what was in memory is written beside `output`
    a `ray.data.Dataset`             a `ray.data.Dataset` comes back, read lazily

How things in memory become files is decided in `memory`, how options become a run in `assembly`.
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

    from jobs.job import Job
    from jobs.sdk.engine import Engine
    from pipeline import Task

STAGED = "-input"
"""What is appended to OUTPUT for the folder that an input in memory is written to."""


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
        input: Where the rows come from; a path or a URI.
        output: The folder for the results; a path or a URI.
        engine: An engine that is kept warm.
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
    """Run a job over files or over what is in memory; see the module.

    Args:
        job: The job.
        settings: Its options by name, not checked yet.
        source: The input.
        output: The folder for the results; needed for files.
        engine: An engine that is kept warm; then `settings` have no `model`.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: An option, the input or the output is wrong.
        RunError: The run could not be finished; the same call continues it.
    """
    if engine is not None:
        settings = engine.options(settings)
        engine.check_started()  # here, where nothing is written yet
    configured = configure(job, settings)
    output = None if output is None else str(output)
    ways: dict[str, Any] = {"engine": engine, "console": console, "debug": debug}
    if is_uri(source):
        if output is None:
            raise UserError("output: is missing; name a folder for the results of files")
        return run_job(configured, str(source), output, **ways)
    if output is not None:
        folder = output.rstrip("/") + STAGED
        return run_job(configured, _staged(configured, source, folder), output, **ways)
    if is_ray_dataset(source):
        return _over_ray_dataset(configured, source, ways)
    return _in_memory(configured, source, ways)


def _staged(job: ConfiguredJob, source: Any, folder: str) -> str:
    """Write an input in memory to a folder; returns what to read."""
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
    columns = [*task.columns]
    rows = rows_of(source, _main_column(columns))
    table = _checked(rows.table, task, [*task.result_schema.names, *ADDED.names])
    return write_rows(table, table.column_names, where)


def _in_memory(job: ConfiguredJob, source: Any, ways: Mapping[str, Any]) -> Any:
    with tempfile.TemporaryDirectory(prefix="gemma3-batch-") as folder:
        task = job.task()
        added = new_columns(task.result_schema.names)
        rows = rows_of(source, _main_column([*task.columns]), task.columns)
        table = _checked(rows.table, task, added)
        if not table.num_rows:
            return rows.give_back(_no_rows(task))
        file = write_rows(table, [*task.columns], locate(f"{folder}/in"))
        done = run_job(job, file, f"{folder}/out", **ways)
        return rows.give_back(done.table(added))


def _checked(table: pa.Table, task: Task, added: Sequence[str]) -> pa.Table:
    """The rows as a run takes them. Raises UserError where they lack or take a column's name."""
    for place, field in enumerate(table.schema):
        if field.name in task.columns and pa.types.is_null(field.type):
            table = table.set_column(place, field.name, table[place].cast(pa.string()))
    check_columns(table.schema, task.columns)
    taken = next((name for name in table.column_names if name in added), None)
    if taken is not None:
        raise UserError(f"input: has a column '{taken}', which is the name of one added; rename it")
    kinds = task.columns.items()
    images = [name for name, kind in kinds if kind in (ColumnKind.IMAGE, ColumnKind.IMAGES)]
    return with_absolute_paths(table, images)


def _over_ray_dataset(job: ConfiguredJob, source: Any, ways: Mapping[str, Any]) -> Any:
    """The results stay in a folder of their own, since they are read when they are needed."""
    folder = tempfile.mkdtemp(prefix="gemma3-batch-")
    try:
        write_ray_dataset(source, locate(f"{folder}/in"))
        done = run_job(job, f"{folder}/in", f"{folder}/out", **ways)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return open_parts_in_ray(locate(done.output))


def _no_rows(task: Task) -> pa.Table:
    schema = pa.schema([*task.result_schema, *ADDED])
    return schema.empty_table().select(new_columns(task.result_schema.names))


def _main_column(columns: Sequence[str]) -> str:
    """What a plain list holds: the first of the columns that the job reads."""
    return columns[0]
