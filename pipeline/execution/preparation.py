"""The checks that come first, before Ray starts and without writing anything.

Found only later: whether the task pickles (`check_pickles`), whether the cluster has enough GPUs
(`placement`), whether OUTPUT can be written to and its store keeps conditions (`probe`), and
whether vLLM accepts the engine's arguments together (the first block of rows).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.contract.adapted import adapted, original
from pipeline.contract.errors import UserError, one_line
from pipeline.contract.record import Outcome, clash_fault, clashes, merged_column
from pipeline.contract.suggest import suggestion
from pipeline.contract.task import ColumnKind, Renamable
from pipeline.engine.checkpoint import open_checkpoint, resolve_engine
from pipeline.engine.supported_versions import check_versions
from pipeline.output.extension import changes_of
from pipeline.output.plan import open_plan
from pipeline.output.run_record import choose_output, describe_run, has_same_input, read_record
from pipeline.sources import Selection, check_columns, list_input, open_source
from pipeline.sources.columns import is_string
from pipeline.storage.access import check_access
from pipeline.storage.location import is_writable, locate

if TYPE_CHECKING:
    from collections.abc import Collection

    from pipeline.contract.config import RunConfig
    from pipeline.contract.task import Task
    from pipeline.engine.interface import Backend
    from pipeline.output.comparison import Changes
    from pipeline.output.plan import Plan
    from pipeline.output.run_record import Record
    from pipeline.sources import Listing, Source
    from pipeline.storage.location import Location


@dataclass(frozen=True, kw_only=True)
class CheckedRun:
    """A run whose input, output, columns and model have been checked.

    Attributes:
        config: The configuration, fitted to the checkpoint.
        task: What is done with each row.
        listing: The files of INPUT.
        source: What cuts and reads them.
        selection: Which of their rows the run takes.
        output: The folder to write to; with `new_version` it may be another than OUTPUT.
        plan: The plan in it; None if there is none yet.
        changes: The input against that plan.
        record: What the run is, for `run.json` and the parts.
    """

    config: RunConfig
    task: Task
    listing: Listing
    source: Source
    selection: Selection
    output: Location
    plan: Plan | None
    changes: Changes | None
    record: Record


def check_run(
    config: RunConfig, task: Task, backend: Backend, *, extends: bool = True
) -> CheckedRun:
    """Check the installed versions, and a configuration and a task against model, INPUT, OUTPUT.

    Args:
        config: What the run is on.
        task: What it does with each row.
        backend: What renders and generates.
        extends: Whether new and changed files of INPUT will be planned, so that their columns
            count.

    Raises:
        UserError: Something must be fixed.
        OSError: INPUT or OUTPUT cannot be read.
    """
    check_versions("Ray", *backend.needs)
    task = adapted(task, config.engine.lora_column)
    _check_folders(config)
    listing = list_input(config.input, config.storage_options)  # before a model is fetched
    has_images = bool({ColumnKind.IMAGE, ColumnKind.IMAGES} & {*task.columns.values()})
    checkpoint = open_checkpoint(
        config.engine.model,
        config.engine.prompt_format,
        needs_images=has_images,
        options=config.storage_options,
    )
    if has_images and not checkpoint.profile.has_vision:
        raise UserError(
            f"model {config.engine.model} is {checkpoint.profile.architecture}, which takes no "
            f"images; '{task.name}' needs a Gemma 3 with vision (4B or larger)"
        )
    engine = resolve_engine(config.engine, checkpoint, config.storage_options)
    engine = engine.model_copy(update={"has_images": has_images})
    config = config.model_copy(update={"engine": engine})
    backend.check(config.engine)
    record = describe_run(config, task, checkpoint, backend.name, listing.skipped)
    output = choose_output(config, record)
    plan = open_plan(output)
    source = open_source(
        listing,
        unit_rows=config.unit_rows,
        keep_images=config.keep_images,
        schema=plan.schema if plan else None,
        most_rows=None if config.where else config.limit,
    )
    selection = Selection.of(config, source.schema, config.unit_rows)
    changes = None if plan is None else changes_of(plan, listing, selection)
    if changes is not None and not changes.unchanged:
        _check_same_input(config, output, record)
    if changes and extends:
        source = source.with_columns_of(changes.new).with_columns_of(changes.changed)
        selection = Selection.of(config, source.schema, config.unit_rows)
    _check_columns(source, task, config)
    return CheckedRun(
        config=config,
        task=task,
        listing=listing,
        source=source,
        selection=selection,
        output=output,
        plan=plan,
        changes=changes,
        record=record,
    )


def check_outcomes(names: Collection[str]) -> list[Outcome]:
    """Outcomes by name, for a retry. Raises UserError for `ok`, `kept`, or no outcome."""
    choices = [outcome for outcome in Outcome if outcome not in (Outcome.OK, Outcome.KEPT)]
    for name in names:
        if name not in choices:
            raise UserError(f"outcome '{name}': should be one of {', '.join(choices)}")
    return [Outcome(name) for name in names]


def check_pickles(task: Task) -> None:
    """Check that a task can be sent to other processes; once Ray runs.

    Raises:
        UserError: It cannot: it holds a lock, an open file or the like.
    """
    from ray import cloudpickle

    try:
        cloudpickle.dumps(task)
    except Exception as error:  # whatever pickling somebody's objects raises
        raise UserError(
            f"task '{task.name}' cannot be sent to other processes: {one_line(error)}; make what "
            "does not pickle where it is used"
        ) from error


def _check_same_input(config: RunConfig, output: Location, record: Record) -> None:
    """Refuse an INPUT none of whose files is as planned, unless it is the one of before."""
    before = read_record(output)
    if before is None or not has_same_input(before, record):
        raise UserError(
            f"OUTPUT {output} was made from another INPUT, with which {config.input} has no file "
            "in common; name a new folder"
        )


def _check_folders(config: RunConfig) -> None:
    if config.join and config.single_driver:
        raise UserError(
            "join: excludes single_driver, which says that no other run writes; leave one out"
        )
    output, location = (
        locate(uri, config.storage_options)
        for uri in (config.output, config.input.partition("*")[0] or ".")
    )
    check_access(location, "INPUT")
    if is_writable(output):  # `choose_output` refuses others
        check_access(output, "OUTPUT")
    if location.contains(output):
        raise UserError(f"OUTPUT {output} lies in INPUT; choose a folder outside of it")
    if output.is_local and output.exists() and not output.is_folder():
        raise UserError(f"OUTPUT {output} is a file; name a folder")


def _check_columns(source: Source, task: Task, config: RunConfig) -> None:
    results, prefix = task.result_schema, config.prefix or ""
    check_columns(source.schema, task.columns)
    merged = merged_column(results.names, config.missing, prefix)
    if config.missing is not None:
        result = results.field(merged.removeprefix(prefix)).type if merged else None
        _check_missing(source.schema, config.missing, result)
    taken = clashes(source.passthrough_schema.names, results.names, prefix, merged)
    if taken:
        named = original(task)
        option = named.renaming_option if isinstance(named, Renamable) else None
        raise UserError(f"INPUT has {clash_fault(taken, option)}")


def _check_missing(schema: pa.Schema, name: str, result: pa.DataType | None) -> None:
    """Check the column whose missing values are computed, and that results of a type can be."""
    if name not in schema.names:
        raise UserError(
            f"missing: INPUT has no column '{name}'; {suggestion(name, schema.names)}"
            f"its columns are {', '.join(schema.names)}"
        )
    if result is not None and not _can_be(schema.field(name).type, result):
        raise UserError(
            f"missing: column '{name}' is {schema.field(name).type}, and what the run adds under "
            f"that name is {result}; rename it"
        )


def _can_be(type_: pa.DataType, result: pa.DataType) -> bool:
    """Whether old values of a type can stand beside results."""
    values = type_.value_type if pa.types.is_dictionary(type_) else type_
    return bool(
        values == result or pa.types.is_null(values) or (is_string(values) and is_string(result))
    )
