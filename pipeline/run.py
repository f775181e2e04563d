"""One run from INPUT to OUTPUT: checks everything a user can fix, then lets a driver do the work.

Composes only. All user errors are found before Ray starts and before anything is written; after
that a run either accounts for every row or fails; in both cases OUTPUT holds whole parts, and the
same command goes on where it stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import UserError
from pipeline.contract.record import clashes
from pipeline.contract.task import ColumnKind, Task
from pipeline.engine.checkpoint import Checkpoint, open_checkpoint, resolve_engine
from pipeline.engine.vllm_engine import VLLM
from pipeline.execution.cluster import cluster
from pipeline.execution.driver import Driver
from pipeline.execution.ledger import Work
from pipeline.execution.placement import Placement, place
from pipeline.execution.progress import RunProgress
from pipeline.execution.root_cause import root_fault
from pipeline.execution.shutdown import graceful_shutdown
from pipeline.output.cleanup import clean_up
from pipeline.output.counts import committed_units, totals
from pipeline.output.fencing import begin_epoch
from pipeline.output.journal import Committed, Journal
from pipeline.output.parts import open_parts
from pipeline.output.plan import Plan, extended, is_same_input, open_plan
from pipeline.output.run_record import (
    Record,
    choose_output,
    claim,
    describe_run,
    finish,
    read_record,
    withdraw,
)
from pipeline.sources import Listing, Source, check_columns, list_input, open_source
from pipeline.storage.atomic import probe
from pipeline.storage.location import Location, locate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    import pyarrow.dataset as ds
    from rich.console import Console

    from pipeline.contract.config import RunConfig
    from pipeline.engine.interface import Backend
    from pipeline.storage.location import StorageOptions


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What is in OUTPUT after a run that came to its end.

    Attributes:
        output: The folder with the parquet files, absolute, or a URI.
        rows: Rows in it, one for each input row.
        outcomes: Rows by outcome.
        duplicates: Rows that took the results of an identical one.
        new_rows: Rows that this run computed; the others were there.
        model_class: Module and name of the model class the engine loaded; None where no row came as
            far as the engine.
        seconds: From the first check to the last commit, engine start included.
        rows_per_second: From the first engine's being ready to the last row; 0 if none was needed.
        storage_options: With which OUTPUT can be read.
    """

    output: str
    rows: int
    outcomes: Mapping[str, int]
    duplicates: int
    new_rows: int
    model_class: str | None
    seconds: float
    rows_per_second: float
    storage_options: StorageOptions = field(default_factory=dict, repr=False, compare=False)

    def dataset(self) -> ds.Dataset:
        """The rows of OUTPUT in input order, read when they are asked for."""
        return open_parts(locate(self.output, self.storage_options))

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of OUTPUT in input order, all at once; of some columns, or of all."""
        return self.dataset().to_table(columns=None if columns is None else [*columns])


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run whose input, output, columns and model have been checked; nothing is written yet."""

    config: RunConfig
    task: Task
    listing: Listing
    source: Source
    output: Location
    plan: Plan | None
    record: Record


def run(
    config: RunConfig,
    task: Task,
    *,
    backend: Backend = VLLM,
    console: Console | None = None,
    debug: bool = False,
) -> RunResult:
    """Run a task over an input, or finish such a run.

    Args:
        config: What to run on.
        task: What to do with each row.
        backend: What renders and generates.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: Something in the configuration or the input must be fixed; nothing was written.
        ErrorRateError: More rows failed than `max_error_rate` allows; resumable.
        RunError: The run could not be finished; resumable.
    """
    began = time.monotonic()
    prepared = prepare(config, task)
    if _is_done(prepared):
        return summary(prepared, None, time.monotonic() - began)
    with cluster(debug=debug):
        placement = placed(prepared.config, backend)
        driver = _drive(prepared, backend, placement, console)
        return summary(prepared, driver, time.monotonic() - began)


def prepare(config: RunConfig, task: Task) -> Prepared:
    """Check all that can be checked without starting or writing anything. Raises UserError."""
    checkpoint = open_checkpoint(config.engine.model)
    _check_vision(config, task, checkpoint)
    config = config.model_copy(update={"engine": resolve_engine(config.engine, checkpoint)})
    _check_apart(config)
    listing = list_input(config.input, config.storage_options)
    record = describe_run(config, task, checkpoint)
    output = choose_output(config, record)
    plan = open_plan(output)
    source = open_source(
        listing,
        unit_rows=config.unit_rows,
        keep_images=config.keep_images,
        schema=plan.schema if plan else None,
    )
    check_columns(source.schema, task.columns)
    _check_names(source, task)
    if plan is not None and not is_same_input(plan, listing):
        raise UserError(
            f"OUTPUT {output} was made from another INPUT, with which {config.input} has no file "
            "in common; name a new folder"
        )
    return Prepared(
        config=config,
        task=task,
        listing=listing,
        source=source,
        output=output,
        plan=plan,
        record=record,
    )


def _check_apart(config: RunConfig) -> None:
    output, location = (
        locate(uri, config.storage_options)
        for uri in (config.output, config.input.partition("*")[0] or ".")
    )
    if location.contains(output):
        raise UserError(f"OUTPUT {output} lies in INPUT; choose a folder outside of it")
    if output.is_local and output.exists() and not output.is_folder():
        raise UserError(f"OUTPUT {output} is a file; name a folder")


def _check_names(source: Source, task: Task) -> None:
    taken = clashes(source.passthrough_schema, task.result_schema)
    if taken:
        raise UserError(
            f"INPUT has a column '{taken[0]}', which is the name of one the run adds; rename it"
        )


def _check_vision(config: RunConfig, task: Task, checkpoint: Checkpoint) -> None:
    has_images = {ColumnKind.IMAGE, ColumnKind.IMAGES} & {*task.columns.values()}
    if has_images and not checkpoint.profile.has_vision:
        raise UserError(
            f"model {config.engine.model} is {checkpoint.profile.architecture}, which takes no "
            f"images; '{task.name}' needs a Gemma 3 with vision (4B or larger)"
        )


def placed(config: RunConfig, backend: Backend) -> Placement:
    """How the run's actors share the cluster this process is connected to. Raises UserError."""
    import ray

    resources = ray.cluster_resources()
    if not backend.holds_gpus:
        resources.pop("GPU", None)
    return place(config, resources)


def _journal(prepared: Prepared) -> Journal:
    return Journal(prepared.output, prepared.task.result_schema, prepared.record)


def _is_done(prepared: Prepared) -> bool:
    """Whether every row of the input, as it is now, is in a part."""
    if prepared.plan is None:
        return False
    plan = extended(prepared.plan, prepared.output, prepared.listing, prepared.source)
    return not len(plan.pending(committed_units(plan, _journal(prepared))))


def _drive(
    prepared: Prepared, backend: Backend, placement: Placement, console: Console | None
) -> Driver:
    """Claim OUTPUT, make the plan and finish its units."""
    output, config = prepared.output, prepared.config
    if not config.single_driver:
        probe(output)
    is_first = claim(output, prepared.record)
    turn = begin_epoch(output)
    driver: Driver | None = None
    try:
        plan = extended(open_plan(output), output, prepared.listing, prepared.source)
        journal = _journal(prepared)
        is_committed = committed_units(plan, journal)
        with (
            RunProgress(prepared.task.name, plan.total_rows, console) as progress,
            graceful_shutdown(config.drain_seconds, progress),
        ):
            progress.skip(int(plan.rows[is_committed & plan.is_live].sum()))
            driver = Driver(
                config=config,
                task=prepared.task,
                source=prepared.source,
                journal=journal,
                commit=commit_unit,
                is_done=partial(_is_committed, journal),
                backend=backend,
                placement=placement,
                progress=progress,
            )
            driver.drive(Work(plan.unit(int(index))) for index in plan.pending(is_committed))
    except BaseException as error:
        if is_first and turn.number == 1 and turn.is_newest and not (driver and driver.rows):
            withdraw(output)
        told = root_fault(error)
        if told is error:
            raise
        raise told from error
    clean_up(plan, turn)
    return driver


def commit_unit(journal: Journal, work: Work, source: Source) -> Committed:
    """What the driver lets be done with a complete unit."""
    return journal.commit(work.unit, source)


def _is_committed(journal: Journal, work: Work) -> bool:
    found = journal.committed(work.unit.part)
    return found is not None and found.unit_id == work.unit.id


def summary(prepared: Prepared, driver: Driver | None, seconds: float) -> RunResult:
    """Count what is in OUTPUT and, where a driver did something, record it."""
    plan = open_plan(prepared.output)
    assert plan is not None, "a run that came to its end has a plan"
    counted = totals(plan, _journal(prepared))
    before = read_record(prepared.output) or prepared.record
    model_class = (driver and driver.model_class) or before.get("model_class")
    result = RunResult(
        output=str(prepared.output),
        rows=counted.rows,
        outcomes=counted.outcomes,
        duplicates=counted.duplicates,
        new_rows=driver.rows if driver else 0,
        model_class=model_class,
        seconds=seconds,
        rows_per_second=driver.rows_per_second if driver else 0.0,
        storage_options=prepared.config.storage_options,
    )
    if driver is not None:
        finish(prepared.output, {**prepared.record, "id": before["id"]}, _recorded(result))
    return result


def _recorded(result: RunResult) -> dict[str, Any]:
    return {
        "rows": result.rows,
        "outcomes": dict(result.outcomes),
        "duplicates": result.duplicates,
        "model_class": result.model_class,
        "seconds": round(result.seconds, 1),
        "rows_per_second": round(result.rows_per_second, 2),
    }
