"""The jobs as functions: over files, and over what is in memory.

    files (a path or a URI)          results go to `output`; a `RunResult` comes back
    in memory, without `output`      the same kind comes back, with the new columns, in order
    in memory, with `output`         as with files; what was in memory is written beside `output`
    a `ray.data.Dataset`             a `ray.data.Dataset` comes back, read lazily

How things in memory become files is `memory`'s, how options become a run `assembly`'s.
"""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.assembly import assemble, assemble_task
from jobs.options.check import check_options
from jobs.options.job_options import CaptionOptions, JobOptions, ModerateOptions, TranslateOptions
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
from pipeline.output.parts import part_files
from pipeline.sources.columns import check_columns
from pipeline.storage.location import locate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from rich.console import Console

    from jobs.sdk.engine import Engine
    from jobs.settings import CaptionSettings, ModerateSettings, TranslateSettings
    from pipeline import Task

STAGED = "-input"
"""What is appended to OUTPUT for the folder that an input in memory is written to."""


def caption(
    input: Any,  # noqa: A002  the same names as on the command line
    output: str | None = None,
    *,
    engine: Engine | None = None,
    console: Console | None = None,
    debug: bool = False,
    **settings: Unpack[CaptionSettings],
) -> Any:
    """Caption every row's image, or go on with a run of the same that was stopped.

    Adds `caption` (text; a list of strings for `style="tags"`; what a `json_schema` says),
    `captions` where `n` is more than 1, `outcome`, `error`, `prompt_tokens`, `output_tokens`, and
    in files `row_key`. One output row for each input row, in input order.

    Args:
        input: A path or URI of parquet, images, JSON lines or tar shards; a pandas or Arrow
            table, a Hugging Face or Ray dataset; a list of paths, links, bytes, PIL images or
            dicts.
        output: A folder for parquet files: a path, `s3://` or `gs://`. Needed for files.
        engine: An engine that is kept warm; it takes the place of `model` and what goes with it.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.
        **settings: The options of `gemma3-batch caption`, under the same names; see
            `jobs.options.job_options.CaptionOptions`.

    Returns:
        For files a `RunResult`, else the same kind as `input`; see the module.

    Raises:
        UserError: Something about the input, the output, the model or an option must be fixed.
        ErrorRateError: More rows failed than `max_error_rate` allows.
        RunError: The run could not be finished; the same call goes on with it.
    """
    return _run(CaptionOptions, settings, input, output, engine, console, debug)


def translate(
    input: Any,  # noqa: A002
    output: str | None = None,
    *,
    engine: Engine | None = None,
    console: Console | None = None,
    debug: bool = False,
    **settings: Unpack[TranslateSettings],
) -> Any:
    """Translate every row's texts, or the text in its image, into one or more languages.

    Adds for each text column and each language of `to`: `text_de`, `text_de_outcome` and
    `text_de_lost` (placeholders, links, numbers and so on that did not survive; empty where all
    did); with `source="auto"` also `text_language` and `text_language_confidence` (0 to 1);
    further `outcome` (the worst of the row's), `error`, `prompt_tokens`, `output_tokens`, and in
    files `row_key`. Texts in the target language already are passed through.

    Args:
        input: As for `caption`; a plain list holds texts.
        output: As for `caption`.
        engine: As for `caption`.
        console: As for `caption`.
        debug: As for `caption`.
        **settings: The options of `gemma3-batch translate`; see `jobs.options.job_options.TranslateOptions`.

    Returns:
        As `caption`.

    Raises:
        UserError: As for `caption`; a language code that there is not is one.
        ErrorRateError: As for `caption`.
        RunError: As for `caption`.
    """
    return _run(TranslateOptions, settings, input, output, engine, console, debug)


def moderate(
    input: Any,  # noqa: A002
    output: str | None = None,
    *,
    engine: Engine | None = None,
    console: Console | None = None,
    debug: bool = False,
    **settings: Unpack[ModerateSettings],
) -> Any:
    """Judge every row's image or text by policies.

    Adds `p_<policy>` (probability of a violation, 0 to 1) for each policy, `flagged` (whether any
    is at its threshold), `labels` (those that are), `outcome`, `error`, `prompt_tokens`,
    `output_tokens`, and in files `row_key`.

    Args:
        input: As for `caption`.
        output: As for `caption`.
        engine: As for `caption`.
        console: As for `caption`.
        debug: As for `caption`.
        **settings: The options of `gemma3-batch moderate`; see `jobs.options.job_options.ModerateOptions`.

    Returns:
        As `caption`.

    Raises:
        UserError: As for `caption`; so is a policy file with a fault.
        ErrorRateError: As for `caption`.
        RunError: As for `caption`.
    """
    return _run(ModerateOptions, settings, input, output, engine, console, debug)


def run_job(
    options: JobOptions,
    input: str,  # noqa: A002
    output: str,
    *,
    engine: Engine | None = None,
    console: Console | None = None,
    debug: bool = False,
) -> RunResult:
    """Run a job whose options are checked, over files. Raises as `caption`."""
    assembled = assemble(options, input, output)
    if engine is None:
        return run(assembled.config, assembled.task, console=console, debug=debug)
    return run(
        engine.configured(assembled.config),
        assembled.task,
        backend=engine.backend,
        console=console,
        debug=debug,
    )


def _run(
    model: type[JobOptions],
    settings: Mapping[str, Any],
    source: Any,
    output: str | None,
    engine: Engine | None,
    console: Console | None,
    debug: bool,
) -> Any:
    if engine is not None:
        settings = engine.options(settings)
        engine.check_started()  # here, where nothing is written yet
    options = check_options(model, settings)
    output = None if output is None else str(output)
    ways: dict[str, Any] = {"engine": engine, "console": console, "debug": debug}
    if is_uri(source):
        if output is None:
            raise UserError("output: is missing; name a folder for the results of files")
        return run_job(options, str(source), output, **ways)
    if output is not None:
        folder = output.rstrip("/") + STAGED
        return run_job(options, _staged(options, source, folder), output, **ways)
    if is_ray_dataset(source):
        return _over_ray_dataset(options, source, ways)
    return _in_memory(options, source, ways)


def _staged(options: JobOptions, source: Any, folder: str) -> str:
    """Write an input in memory to a folder; returns what to read."""
    where = locate(folder, options.storage_options)
    task = assemble_task(options)
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


def _in_memory(options: JobOptions, source: Any, ways: Mapping[str, Any]) -> Any:
    with tempfile.TemporaryDirectory(prefix="gemma3-batch-") as folder:
        task = assemble_task(options)
        added = new_columns(task.result_schema.names)
        rows = rows_of(source, _main_column([*task.columns]), task.columns)
        table = _checked(rows.table, task, added)
        if not table.num_rows:
            return rows.give_back(_no_rows(task))
        file = write_rows(table, [*task.columns], locate(f"{folder}/in"))
        done = run_job(options, file, f"{folder}/out", **ways)
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


def _over_ray_dataset(options: JobOptions, source: Any, ways: Mapping[str, Any]) -> Any:
    """The results stay in a folder of their own, since they are read when they are needed."""
    import ray.data

    folder = tempfile.mkdtemp(prefix="gemma3-batch-")
    try:
        write_ray_dataset(source, locate(f"{folder}/in"))
        done = run_job(options, f"{folder}/in", f"{folder}/out", **ways)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    files = part_files(locate(done.output))
    return ray.data.read_parquet(files, partitioning=None)


def _no_rows(task: Task) -> pa.Table:
    schema = pa.schema([*task.result_schema, *ADDED])
    return schema.empty_table().select(new_columns(task.result_schema.names))


def _main_column(columns: Sequence[str]) -> str:
    """What a plain list holds: the first of the columns that the job reads."""
    return columns[0]
