"""What the call of a job's function does with files, and with data in memory.

    input                            result
    files (a path or a URI)          files in `output`; returns a `RunResult`
    data in memory, no `output`      returns the same kind of data with the new columns, in order
    data in memory, with `output`    as for files; the same call with the same rows resumes
    a `ray.data.Dataset`             returns a `ray.data.Dataset`, in Ray's object store

`memory` turns data into files, `assembly` options into a run. These files, and results for which
there is no `output`, are in the memory of the Ray cluster and go when the call ends.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.sdk.assembly import ConfiguredJob, configure
from jobs.sdk.memory import (
    first_local_path,
    is_ray_dataset,
    is_uri,
    new_columns,
    rows_of,
    with_absolute_paths,
)
from jobs.sdk.parquet_files import write_ray_dataset, write_rows
from pipeline import ColumnKind, RunResult, UserError, run
from pipeline.contract.adapted import original
from pipeline.contract.config import OUTPUT_FORMATS
from pipeline.contract.record import clash_fault, merged_column, output_schema
from pipeline.contract.task import PICTURES, Renamable
from pipeline.engine.backends import open_model
from pipeline.execution.cluster import cluster
from pipeline.execution.shared_folders import check_shared_file
from pipeline.output.parts import open_parts_in_ray
from pipeline.output.run_record import read_record
from pipeline.sources.columns import MissingColumnError, check_columns
from pipeline.storage.access import check_access
from pipeline.storage.location import MEMORY, locate
from pipeline.storage.ray_memory import ray_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from jobs.options.common import JobOptions
    from jobs.options.job import Job
    from jobs.sdk.engine import Engine
    from pipeline import Task
    from pipeline.execution.display.json_log import JsonLog
    from pipeline.storage.location import Location


def run_job(
    job: ConfiguredJob,
    input: str,  # noqa: A002
    output: str,
    *,
    engine: Engine | None = None,
    console: Console | JsonLog | None = None,
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
    backend = None
    if engine is not None:
        config, backend = engine.configured(config), engine.backend
    try:
        return run(config, task, backend=backend, console=console, debug=debug)
    except MissingColumnError as error:
        raise UserError(f"{error}{naming_option(job.options, error.column)}") from error


def call(
    job: Job[Any],
    settings: Mapping[str, Any],
    source: Any,
    output: str | None = None,
    *,
    engine: Engine | None = None,
    console: Console | JsonLog | None = None,
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
    _check_arguments(output, engine)
    if engine is not None:
        settings = engine.options(settings, job.options.model_fields)
        engine.check_started()  # now, before anything is written
    configured = configure(job, settings)
    output = None if output is None else str(output)
    how: dict[str, Any] = {"engine": engine, "console": console, "debug": debug}
    if is_uri(source):
        if output is None:
            raise UserError("output: is missing; name a folder for the results of files")
        return run_job(configured, str(source), output, **how)
    if output is None and configured.options.output_format != OUTPUT_FORMATS[0]:
        raise UserError("output_format: is that of files; name an output, or leave it out")
    # Now, before a cluster starts and rows are handed over.
    if engine is None:
        wanted = configured.engine()
        open_model(wanted.model, wanted.prompt_format, endpoint=wanted.endpoint)
    if output is not None:
        check_access(locate(output, configured.options.storage_options), "OUTPUT")
    if output is None and not is_ray_dataset(source):
        _check_whole(configured.options)
    kind = _RayDataset if is_ray_dataset(source) else _Table
    given = kind(configured.task(), source, output, configured.options)
    if given.is_empty:
        return _without_rows(given, output)
    with cluster(debug=debug), ray_folder() as scratch:
        if given.path is not None:
            check_shared_file(given.path)
        return _run_over(given, configured, scratch, output, how)


def naming_option(options: JobOptions, column: str) -> str:
    """How to name another column than a default one; empty where an option has named it.

    Args:
        options: The job's.
        column: The one that the input lacks.
    """
    unset = type(options).model_fields.keys() - options.model_fields_set
    for name in sorted(unset):
        value = getattr(options, name)
        if name.endswith(("_column", "_columns")) and value and column in (value, *value):
            return f"; name yours with --{name.replace('_', '-')}"
    return ""


def _check_arguments(output: object, engine: object) -> None:
    """Check what is no option. Raises UserError."""
    from jobs.sdk.engine import Engine

    if engine is not None and not isinstance(engine, Engine):
        raise UserError(f"engine: should be a jobs.Engine, not a {type(engine).__name__}")
    if output is not None and not is_uri(output):
        raise UserError(f"output: should be a path or a URI, not a {type(output).__name__}")


def _check_whole(options: JobOptions) -> None:
    """Refuse a slice of data whose every row comes back with new columns. Raises UserError."""
    for name in ("where", "limit", "sample", "missing"):
        if getattr(options, name) is not None:
            raise UserError(
                f"{name}: is for files, and for data with an output; take the rows that you want "
                "from the data itself"
            )


def _names_added(added: pa.Schema, task: Task, options: JobOptions) -> list[str]:
    """The columns that a run adds, without one that is the input's too."""
    merged = merged_column(task.result_schema.names, options.missing, options.prefix or "")
    return [name for name in added.names if name != merged]


class _Table:
    """Data in memory that becomes one Arrow table, and what a call with it returns."""

    def __init__(self, task: Task, source: Any, output: str | None, options: JobOptions) -> None:
        results, prefix = task.result_schema.names, options.prefix or ""
        self._added = new_columns(results, prefix)
        self._schema = output_schema(pa.schema([]), task.result_schema, prefix)
        columns = task.columns
        self._rows = rows_of(source, next(iter(columns)), columns if output is None else None)
        table = prepare_table(
            self._rows.table,
            columns=columns,
            added=self._added if output is None else _names_added(self._schema, task, options),
            renaming_option=_renaming_option(task),
            here=os.getcwd(),
        )
        self.path = first_local_path(table, _image_columns(columns))
        # Without an `output`, the other columns are the caller's already.
        self._table = table.select([*columns]) if output is None else table

    @property
    def is_empty(self) -> bool:
        return not self._table.num_rows

    def empty_result(self) -> Any:
        return self._rows.give_back(self._schema.empty_table().select(self._added))

    def write(self, folder: Location) -> Location:
        return write_rows(self._table, folder)

    def result(self, done: RunResult) -> Any:
        return self._rows.give_back(done.table(self._added))


class _RayDataset:
    """A Ray dataset, and what a call with it returns."""

    is_empty = False
    path = None
    """Neither is known before it is written."""

    def __init__(self, task: Task, source: Any, output: str | None, options: JobOptions) -> None:
        self._task = task
        self._source = source
        self._schema = output_schema(pa.schema([]), task.result_schema, options.prefix or "")
        self._names = _names_added(self._schema, task, options)

    def empty_result(self) -> Any:
        import ray.data

        return ray.data.from_arrow(self._schema.empty_table())

    def write(self, folder: Location) -> Location:
        prepare = partial(
            prepare_table,
            columns=dict(self._task.columns),
            added=self._names,
            renaming_option=_renaming_option(self._task),
            here=os.getcwd(),
        )
        return write_ray_dataset(self._source, folder, prepare)

    def result(self, done: RunResult) -> Any:
        # Now: the files go when the call ends.
        return open_parts_in_ray(locate(done.output)).materialize()


def _run_over(
    given: _Table | _RayDataset,
    job: ConfiguredJob,
    scratch: str,
    output: str | None,
    how: Mapping[str, Any],
) -> Any:
    """Run a job over data in memory, by way of a folder in Ray's memory."""
    folder = given.write(locate(f"{scratch}/in"))
    if not folder.tree():
        return _without_rows(given, output)
    source = str(folder)
    if output is not None:
        _check_same_rows(job, source, output)
        return run_job(job, source, output, **how)
    # Nobody else knows of this folder.
    options = job.options.model_copy(update={"single_driver": True})
    done = run_job(replace(job, options=options), source, f"{scratch}/out", **how)
    return given.result(done)


def _without_rows(given: _Table | _RayDataset, output: str | None) -> Any:
    if output is not None:
        raise UserError("input: has no rows")
    return given.empty_result()


def _check_same_rows(job: ConfiguredJob, source: str, output: str) -> None:
    """Refuse an OUTPUT of other rows. Their name says what is in them."""
    record = read_record(locate(output, job.options.storage_options))
    if record is None or job.options.new_version:
        return
    before = record["config"]["input"]
    if not before.startswith(f"{MEMORY}://"):
        raise UserError(
            f"output: {output} was made from {before}, not from data in memory; give that as the "
            "input, or name another output"
        )
    if before.rpartition("/")[2] != source.rpartition("/")[2]:
        raise UserError(f"output: {output} holds the results of other rows; name another output")


def prepare_table(
    table: pa.Table,
    *,
    columns: Mapping[str, ColumnKind],
    added: Sequence[str],
    renaming_option: str | None,
    here: str,
) -> pa.Table:
    """Check the columns, and make null columns and relative paths readable from a file.

    Args:
        table: The rows.
        columns: The columns that the task reads.
        added: The columns that are added.
        renaming_option: The task's option that names its result, if it has one.
        here: The folder that relative paths start from.

    Raises:
        UserError: A column is missing, or has the name of one that is added.
    """
    for place, field in enumerate(table.schema):
        if field.name in columns and pa.types.is_null(field.type):
            table = table.set_column(place, field.name, table[place].cast(pa.string()))
    check_columns(table.schema, columns)
    taken = [name for name in table.column_names if name in added]
    if taken:
        raise UserError(f"input: has {clash_fault(taken, renaming_option)}")
    return with_absolute_paths(table, _image_columns(columns), here)


def _renaming_option(task: Task) -> str | None:
    named = original(task)
    return named.renaming_option if isinstance(named, Renamable) else None


def _image_columns(columns: Mapping[str, ColumnKind]) -> list[str]:
    return [name for name, kind in columns.items() if kind in PICTURES]
