"""The checks that come first, before Ray starts and without writing anything.

Found only later: whether the task pickles (`check_pickles`), whether the cluster has enough GPUs
(`placement`), whether OUTPUT can be written to and its store keeps conditions (`probe`), and
whether vLLM accepts the engine's arguments together (the first block of rows).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.contract.errors import UserError, one_line
from pipeline.contract.record import Outcome, clashes, output_schema
from pipeline.contract.task import ColumnKind
from pipeline.engine.checkpoint import open_checkpoint, resolve_engine
from pipeline.engine.supported_versions import check_versions
from pipeline.output.comparison import compare
from pipeline.output.formats import FORMATS
from pipeline.output.formats import check_columns as check_format
from pipeline.output.plan import open_plan
from pipeline.output.run_record import choose_output, describe_run, has_same_input, read_record
from pipeline.output.sidecars import sidecars_of
from pipeline.sources import check_columns, list_input, open_source
from pipeline.storage.access import check_access
from pipeline.storage.location import is_writable, locate

if TYPE_CHECKING:
    from collections.abc import Collection

    from pipeline.contract.config import EngineConfig, RunConfig
    from pipeline.contract.task import Task
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
    output: Location
    plan: Plan | None
    changes: Changes | None
    record: Record
    sidecars: Sidecars | None = None


def check_run(config: RunConfig, task: Task, backend: Backend) -> CheckedRun:
    """Check the installed versions, and a configuration and a task against model, INPUT, OUTPUT.

    Args:
        config: What the run is on.
        task: What it does with each row.
        backend: What renders and generates.

    Raises:
        UserError: Something must be fixed.
        OSError: INPUT or OUTPUT cannot be read.
    """
    check_versions("Ray", *backend.needs)
    has_images = bool({ColumnKind.IMAGE, ColumnKind.IMAGES} & {*task.columns.values()})
    checkpoint = open_checkpoint(
        config.engine.model, config.engine.prompt_format, needs_images=has_images
    )
    if has_images and not checkpoint.profile.has_vision:
        raise UserError(
            f"model {config.engine.model} is {checkpoint.profile.architecture}, which takes no "
            f"images; '{task.name}' needs a Gemma 3 with vision (4B or larger)"
        )
    engine = resolve_engine(config.engine, checkpoint).model_copy(update={"has_images": has_images})
    config = _fitted(config, engine)
    backend.check(config.engine)
    _check_folders(config)
    listing = list_input(config.input, config.storage_options)
    record = describe_run(config, task, checkpoint, backend.name, listing.skipped)
    output = choose_output(config, record)
    plan = open_plan(output)
    source = open_source(
        listing,
        unit_rows=config.unit_rows,
        keep_images=config.keep_images,
        schema=plan.schema if plan else None,
    )
    _check_columns(source, task)
    _check_format(config, source, task)
    changes = None if plan is None else compare(plan, listing)
    if plan is not None and changes is not None and not changes.unchanged:
        _check_same_input(config, output, record, plan, source)
    return CheckedRun(
        config=config,
        task=task,
        listing=listing,
        source=source,
        output=output,
        plan=plan,
        changes=changes,
        record=record,
        sidecars=_sidecars(config, output, listing, task, plan is not None and not changes),
    )


def check_outcomes(names: Collection[str]) -> list[Outcome]:
    """Outcomes by name, for a retry. Raises UserError for `ok` or a name that does not exist."""
    choices = [outcome for outcome in Outcome if outcome is not Outcome.OK]
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


def _check_same_input(
    config: RunConfig, output: Location, record: Record, plan: Plan, source: Source
) -> None:
    """Refuse an INPUT none of whose files is as planned, unless it is the one of before."""
    before = read_record(output)
    is_same = before is not None and has_same_input(before, record)
    if not is_same or source.schema != plan.schema:
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


def _fitted(config: RunConfig, engine: EngineConfig) -> RunConfig:
    """The configuration with the checkpoint's engine, and the images that the format has."""
    keep_images = config.keep_images or FORMATS[config.output_format].keeps_images
    return config.model_copy(update={"engine": engine, "keep_images": keep_images})


def _check_format(config: RunConfig, source: Source, task: Task) -> None:
    columns = output_schema(source.passthrough_schema, task.result_schema)
    check_format(config.output_format, columns)


def _sidecars(
    config: RunConfig, output: Location, listing: Listing, task: Task, is_planned: bool
) -> Sidecars | None:
    """The run's sidecars, if it has any; whether each image can have one is checked once."""
    if not config.sidecars:
        return None
    replaces = config.overwrite_sidecars
    found = sidecars_of(output, listing, task.result_schema, replaces_others=replaces)
    if not (is_planned and found.is_begun):
        found.check(listing, is_begun=found.is_begun)
    return found


def _check_columns(source: Source, task: Task) -> None:
    check_columns(source.schema, task.columns)
    taken = clashes(source.passthrough_schema, task.result_schema)
    if taken:
        raise UserError(
            f"INPUT has a column '{taken[0]}', which is the name of one the run adds; rename it"
        )
