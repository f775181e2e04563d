"""The checks that come first, before Ray starts and without writing anything.

Found only later: whether the task pickles (`check_pickles`), whether the cluster has enough GPUs
(`placement`), whether OUTPUT can be written to and its store keeps conditions (`probe`), and
whether vLLM accepts the engine's arguments together (the first block of rows).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.contract.adapted import adapted, original
from pipeline.contract.errors import UserError, one_line
from pipeline.contract.record import Outcome, clash_fault, clashes, merged_column, output_schema
from pipeline.contract.redaction import redact
from pipeline.contract.suggest import suggestion
from pipeline.contract.task import PICTURES, ColumnKind, Renamable, ShowsVideos
from pipeline.engine.backends import open_model, resolve_model
from pipeline.engine.supported_versions import check_versions, check_videos
from pipeline.execution.cluster import check_address, starts_own_cluster
from pipeline.execution.placement import check_this_machine
from pipeline.output.comparison import compare
from pipeline.output.counts import committed_units
from pipeline.output.extension import changes_of
from pipeline.output.formats import FORMATS
from pipeline.output.formats import check_columns as check_format
from pipeline.output.plan import open_plan
from pipeline.output.run_record import (
    choose_output,
    describe_run,
    has_same_input,
    read_record,
    with_listing,
)
from pipeline.output.sidecars import sidecars_of
from pipeline.sources import (
    HubChoice,
    Kind,
    Selection,
    check_columns,
    kind_of,
    list_input,
    open_source,
)
from pipeline.sources.columns import holds_binary, is_string
from pipeline.storage.access import check_access
from pipeline.storage.location import is_writable, locate

if TYPE_CHECKING:
    from collections.abc import Collection

    from pipeline.contract.config import EngineConfig, RunConfig
    from pipeline.contract.task import Task
    from pipeline.engine.backends import Model
    from pipeline.engine.interface import Backend
    from pipeline.output.comparison import Changes
    from pipeline.output.plan import Plan
    from pipeline.output.run_record import Record
    from pipeline.output.sidecars import Sidecars
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
        sidecars: What writes the answers beside the images; None where that is not asked.
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
    sidecars: Sidecars | None = None


def check_run(
    config: RunConfig, task: Task, backend: Backend, *, retries: bool = False
) -> CheckedRun:
    """Check the installed versions, and a configuration and a task against model, INPUT, OUTPUT.

    Args:
        config: What the run is on.
        task: What it does with each row.
        backend: What renders and generates.
        retries: Whether rows that are planned already are computed again, and no others.

    Raises:
        UserError: Something must be fixed.
        OSError: INPUT or OUTPUT cannot be read.
    """
    check_versions("Ray", *backend.needs)
    check_address()
    task = adapted(task, config.engine.lora_column)
    _check_folders(config)
    choice = HubChoice(config=config.config, split=config.split)
    listing = list_input(config.input, config.storage_options, choice)  # before a model is fetched
    config, model = _fitted(config, task)
    if backend.holds_gpus and starts_own_cluster():
        check_this_machine(config)
    backend.check(config.engine)
    record = describe_run(config, task, model, backend.name)
    output = choose_output(config, record)
    plan = open_plan(output)
    commit = _planned_commit(plan, record, keeps=retries)
    if commit is not None and commit != listing.commit:
        listing = list_input(config.input, config.storage_options, replace(choice, commit=commit))
    record = with_listing(record, listing)
    _check_same_kind(listing, plan)
    source, selection, changes = _compared(config, listing, plan, extends=not retries)
    # Where a server gives no stamps (ETags), a link's name and size do not tell its file.
    are_told_apart = listing.root.is_local or listing.files[0].stamp
    if changes is not None and not (changes.unchanged and are_told_apart):
        _check_same_input(config, output, record)
    _check_columns(source, task, config)
    _check_format(config, source, task)
    shown = listing if selection.is_all else _taken(listing, source, selection)
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
        sidecars=_sidecars(config, output, shown, task, plan is not None and not changes),
    )


def _compared(
    config: RunConfig, listing: Listing, plan: Plan | None, *, extends: bool
) -> tuple[Source, Selection, Changes | None]:
    """What cuts and reads INPUT, which of its rows are taken, and what has changed in it.

    Args:
        config: The run.
        listing: The files of INPUT.
        plan: The plan in OUTPUT; None if there is none.
        extends: Whether new and changed files will be planned, so that their columns count.
    """
    source = open_source(
        listing,
        unit_rows=config.unit_rows,
        keep_images=config.keep_images,
        schema=plan.schema if plan else None,
        most_rows=None if config.where else config.limit,
    )
    selection = Selection.of(config, source.schema, config.unit_rows)
    changes = None
    if plan is not None:
        changes = changes_of(plan, listing, selection) if extends else compare(plan, listing)
    if changes and extends:
        source = source.with_columns_of(changes.new).with_columns_of(changes.changed)
        selection = Selection.of(config, source.schema, config.unit_rows)
    return source, selection, changes


def _fitted(config: RunConfig, task: Task) -> tuple[RunConfig, Model]:
    """The configuration with what the model and the format decide, and the model."""
    wanted = config.engine
    has_images = not PICTURES.isdisjoint(task.columns.values())
    model = open_model(
        wanted.model,
        wanted.prompt_format,
        endpoint=wanted.endpoint,
        needs_images=has_images,
        options=config.storage_options,
    )
    if has_images and not model.profile.has_vision:
        raise UserError(
            f"model {wanted.model} is {model.profile.architecture}, which takes no "
            f"images; '{task.name}' needs a Gemma 3 with vision (4B or larger)"
        )
    engine = resolve_model(wanted, model, config.storage_options)
    engine = engine.model_copy(update={"has_images": has_images})
    _check_room(engine, model)
    _check_frames(task, engine, model)
    keep_images = config.keep_images or FORMATS[config.output_format].keeps_images
    return config.model_copy(update={"engine": engine, "keep_images": keep_images}), model


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


def _planned_commit(plan: Plan | None, record: Record, *, keeps: bool) -> str | None:
    """The commit that INPUT was planned at, if it is to be read again.

    It is until all its rows are there; then the next run reads the newest, as of any other store.

    Args:
        plan: The plan in OUTPUT.
        record: The run.
        keeps: Whether it is read again in any case.
    """
    if plan is None or plan.commit is None:
        return None
    before = read_record(plan.output)
    if before is None or not has_same_input(before, record):
        return None
    is_due = keeps or len(plan.pending(committed_units(plan)))
    return plan.commit if is_due else None


def _check_same_kind(listing: Listing, plan: Plan | None) -> None:
    """Refuse an INPUT that got files which are read instead of those that were planned."""
    planned = kind_of(plan.unit(0).files[0]) if plan is not None and len(plan) else None
    if planned is not None and listing.kind is not planned:
        raise UserError(
            f"INPUT {listing.root} was read as {planned} and now has {listing.files[0].path}, a "
            f"file of {listing.kind}, which is read instead; move it elsewhere, or name a new "
            "OUTPUT"
        )


def _check_same_input(config: RunConfig, output: Location, record: Record) -> None:
    """Refuse an INPUT none of whose files is known to be as planned, unless it is the same one."""
    before = read_record(output)
    if before is None or not has_same_input(before, record):
        raise UserError(
            f"OUTPUT {output} was made from another INPUT, with which {redact(config.input)} has "
            "no file in common; name a new folder"
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


def _check_format(config: RunConfig, source: Source, task: Task) -> None:
    results, prefix = task.result_schema, config.prefix or ""
    merged = merged_column(results.names, config.missing, prefix)
    columns = output_schema(source.passthrough_schema, results, prefix, merged)
    if not config.keep_images:  # what is binary in structs is null
        columns = pa.schema([field for field in columns if not holds_binary(field.type)])
    check_format(config.output_format, columns)


def _taken(listing: Listing, source: Source, selection: Selection) -> Listing:
    """The files of which rows are taken, where that can be told without reading them."""
    if listing.kind is not Kind.IMAGES:
        return listing
    cuts = selection.cuts(source, listing.files)
    paths = {path for cut in cuts for path in cut.files}
    return replace(listing, files=[file for file in listing.files if file.path in paths])


def _sidecars(
    config: RunConfig, output: Location, listing: Listing, task: Task, is_planned: bool
) -> Sidecars | None:
    """The run's sidecars, if it has any; whether each image can have one is checked once."""
    if not config.sidecars:
        return None
    replaces, prefix = config.overwrite_sidecars, config.prefix or ""
    found = sidecars_of(
        output, listing, task.result_schema, replaces_others=replaces, prefix=prefix
    )
    if not (is_planned and found.is_begun):
        found.check(listing, is_begun=found.is_begun)
    return found


def _check_room(engine: EngineConfig, model: Model) -> None:
    """Refuse prompts that no image fits into: every row would fail."""
    needed = model.profile.tokens_per_image
    if engine.has_images and engine.max_model_len <= needed:
        raise UserError(
            f"max_model_len: an image is {needed:,} tokens without any text, and a prompt with its "
            f"answer has {engine.max_model_len:,} at most; raise it"
        )


def _check_frames(task: Task, engine: EngineConfig, model: Model) -> None:
    """Refuse a run of videos that cannot be decoded, or give more images than a prompt takes."""
    if ColumnKind.VIDEO in task.columns.values():
        check_videos()
    shown = original(task)
    frames = shown.most_frames if isinstance(shown, ShowsVideos) else 0
    if frames > engine.max_images:
        raise UserError(
            f"frames: a video gives up to {frames} images, and a request of this engine takes "
            f"{engine.max_images}; raise max_images, or lower frames"
        )
    needed = frames * model.profile.tokens_per_image
    if needed >= engine.max_model_len:
        raise UserError(
            f"frames: {frames} frames of a video are {needed:,} tokens without any text, and a "
            f"prompt with its answer has {engine.max_model_len:,} at most; lower frames (with fps "
            "max_images), or raise max_model_len if the model takes more"
        )


def _check_columns(source: Source, task: Task, config: RunConfig) -> None:
    kinds = {*task.columns.values()}
    if source.kind is Kind.VIDEOS and PICTURES & kinds and ColumnKind.VIDEO not in kinds:
        shows_videos = isinstance(original(task), ShowsVideos)
        fix = "give --frames or --fps (frames or fps in Python)"
        raise UserError(
            f"INPUT {source.root} holds videos, and '{task.name}' "
            + (f"was asked for images; {fix}" if shows_videos else "takes images only")
        )
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
