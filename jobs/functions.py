"""The jobs as functions: over files, and over what is in memory.

    files (a path or a URI)          results go to `output`; a `RunResult` comes back
    in memory, without `output`      the same kind comes back, with the new columns, in order
    in memory, with `output`         as with files; what was in memory is written beside `output`
    a `ray.data.Dataset`             a `ray.data.Dataset` comes back, read lazily

How things in memory become files is `memory`'s, how options become a run `assembly`'s.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.assembly import assemble
from jobs.checking import check_options
from jobs.memory import (
    is_ray_dataset,
    is_uri,
    new_columns,
    rows_of,
    write_ray_dataset,
    write_rows,
)
from jobs.options import CaptionOptions, JobOptions, ModerateOptions, TranslateOptions
from pipeline import RunResult, UserError, run
from pipeline.record import ADDED
from pipeline.results import part_files
from pipeline.storage import locate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from rich.console import Console

    from jobs.settings import CaptionSettings, ModerateSettings, TranslateSettings
    from jobs.warm import Engine
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
    """Caption every row's picture, or go on with a run of the same that was stopped.

    Adds `caption` (text; a list of strings for `style="tags"`; what a `json_schema` says),
    `captions` where `n` is more than 1, `outcome`, `error`, `prompt_tokens`, `output_tokens`, and
    in files `row_key`. One output row for each input row, in input order.

    Args:
        input: A path or URI of parquet, pictures, JSON lines or tar shards; a pandas or Arrow
            table, a Hugging Face or Ray dataset; a list of paths, links, bytes, PIL images or
            dicts.
        output: A folder for parquet files: a path, `s3://` or `gs://`. Needed for files.
        engine: An engine that is kept warm; it takes the place of `model` and what goes with it.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.
        **settings: The options of `gemma3-batch caption`, under the same names; see
            `jobs.options.CaptionOptions`.

    Returns:
        For files a `RunResult`, else the same kind as `input`; see the module.

    Raises:
        UserError: Something about the input, the output, the model or an option must be mended.
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
    """Translate every row's texts, or the text in its picture, into one or more languages.

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
        **settings: The options of `gemma3-batch translate`; see `jobs.options.TranslateOptions`.

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
    """Judge every row's picture or text by policies.

    Adds `p_<policy>` (probability of a violation, 0 to 1) for each policy, `flagged` (whether any
    is at its threshold), `labels` (those that are), `outcome`, `error`, `prompt_tokens`,
    `output_tokens`, and in files `row_key`.

    Args:
        input: As for `caption`.
        output: As for `caption`.
        engine: As for `caption`.
        console: As for `caption`.
        debug: As for `caption`.
        **settings: The options of `gemma3-batch moderate`; see `jobs.options.ModerateOptions`.

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
    options = check_options(model, settings)
    ways: dict[str, Any] = {"engine": engine, "console": console, "debug": debug}
    if is_uri(source):
        if output is None:
            raise UserError("output: is missing; name a folder for the results of files")
        return run_job(options, str(source), output, **ways)
    if output is not None:
        return run_job(options, _staged(options, source, output + STAGED), output, **ways)
    if is_ray_dataset(source):
        return _over_ray_dataset(options, source, ways)
    return _in_memory(options, source, ways)


def _staged(options: JobOptions, source: Any, folder: str) -> str:
    """Write an input in memory to a folder; returns what to read."""
    where = locate(folder, options.storage_options)
    if is_ray_dataset(source):
        if not where.exists():
            write_ray_dataset(source, where)
        return folder
    columns = [*assemble(options, folder, folder + "-unused").task.columns]
    return write_rows(rows_of(source, _main_column(columns)).table, columns, where)


def _in_memory(options: JobOptions, source: Any, ways: Mapping[str, Any]) -> Any:
    with tempfile.TemporaryDirectory(prefix="gemma3-batch-") as folder:
        task = assemble(options, folder, folder).task
        rows = rows_of(source, _main_column([*task.columns]))
        if not rows.table.num_rows:
            return rows.give_back(_no_rows(task))
        file = write_rows(rows.table, [*task.columns], locate(f"{folder}/in"))
        done = run_job(options, file, f"{folder}/out", **ways)
        return rows.give_back(done.table(new_columns(task.result_schema.names)))


def _over_ray_dataset(options: JobOptions, source: Any, ways: Mapping[str, Any]) -> Any:
    """The results stay in a folder of their own, since they are read when they are needed."""
    import ray.data

    folder = tempfile.mkdtemp(prefix="gemma3-batch-")
    write_ray_dataset(source, locate(f"{folder}/in"))
    done = run_job(options, f"{folder}/in", f"{folder}/out", **ways)
    files = part_files(locate(done.output))
    return ray.data.read_parquet(files, partitioning=None)


def _no_rows(task: Task) -> pa.Table:
    schema = pa.schema([*task.result_schema, *ADDED])
    return schema.empty_table().select(new_columns(task.result_schema.names))


def _main_column(columns: Sequence[str]) -> str:
    """What a plain list holds: the first of the columns that the job reads."""
    return columns[0]
