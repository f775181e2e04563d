"""One run from INPUT to OUTPUT: checks everything a user can mend, then drives the stages.

Composes only. All user errors are found before Ray starts and before anything is written; after
that a run either accounts for every row or fails, and OUTPUT holds whole parts in both cases.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.checkpoint import Checkpoint, fitted, open_checkpoint
from pipeline.cluster import cluster
from pipeline.engine import VLLM, Backend
from pipeline.errors import RunError, UserError
from pipeline.faults import root_fault
from pipeline.flow import Flow
from pipeline.journal import Committed, Journal
from pipeline.ledger import Ledger
from pipeline.placement import Placement, place
from pipeline.progress import RunProgress
from pipeline.record import clashes
from pipeline.run_record import Record, claim, describe_run, finish, withdraw
from pipeline.sources import Source, check_columns, open_source
from pipeline.storage import Location, locate
from pipeline.task import ColumnKind, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from pipeline.config import RunConfig
    from pipeline.units import Unit

MOST_COMMITS = 8
"""Commits in flight; beyond that the driver waits."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a finished run did.

    Attributes:
        output: Absolute path of the folder with the parquet files.
        rows: Rows written, one for each input row.
        outcomes: Rows by outcome.
        model_class: Module and name of the model class the engine loaded; None where no row of the
            input came as far as the engine.
        seconds: From the first check to the last commit, engine start included.
        rows_per_second: From the first engine's being ready to the last row; 0 if none was needed.
    """

    output: str
    rows: int
    outcomes: Mapping[str, int]
    model_class: str | None
    seconds: float
    rows_per_second: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run whose input, output, columns and model have been checked."""

    config: RunConfig
    task: Task
    source: Source
    units: tuple[Unit, ...]
    output: str
    record: Record

    @property
    def rows(self) -> int:
        """Rows of the input."""
        return sum(unit.rows for unit in self.units)


def run(
    config: RunConfig,
    task: Task,
    *,
    backend: Backend = VLLM,
    console: Console | None = None,
    debug: bool = False,
) -> RunResult:
    """Run a task over an input.

    Args:
        config: What to run on.
        task: What to do with each row.
        backend: What renders and generates.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: Something in the configuration or the input must be mended; nothing was written.
        RunError: The run began and could not be finished.
    """
    began = time.monotonic()
    plan = make_plan(config, task)
    with cluster(debug=debug):
        driver = Driver(plan, backend, _placement(plan))
        created = claim(plan.output, plan.record)
        try:
            with RunProgress(task.name, plan.rows, console) as progress:
                driver.drive(progress)
        except BaseException as error:
            if not driver.has_rows:
                withdraw(plan.output, created=created)
            told = root_fault(error)
            if told is error:
                raise
            raise told from error
        result = driver.result(time.monotonic() - began)
        finish(plan.output, plan.record, _totals(result))
    return result


def make_plan(config: RunConfig, task: Task) -> Plan:
    """Check all that can be checked without starting anything. Raises UserError."""
    output = _check_output(config)
    location = locate(config.input)
    source = open_source(location, unit_rows=config.unit_rows, keep_images=config.keep_images)
    check_columns(source.schema, task.columns)
    _check_names(source, task)
    checkpoint = open_checkpoint(config.engine.model)
    _check_vision(config, task, checkpoint)
    config = _fitted(config, checkpoint)
    return Plan(
        config=config,
        task=task,
        source=source,
        units=tuple(source.units()),
        output=output.path,
        record=describe_run(config, task, checkpoint),
    )


def _check_output(config: RunConfig) -> Location:
    output, location = locate(config.output), locate(config.input)
    if location.contains(output):
        raise UserError(f"OUTPUT {output.path} lies in INPUT; choose a folder outside of it")
    if output.exists() and not output.is_folder():
        raise UserError(f"OUTPUT {output.path} is a file; name a folder")
    if not output.is_empty():
        raise UserError(f"OUTPUT {output.path} is not empty; name a new folder")
    return output


def _check_names(source: Source, task: Task) -> None:
    taken = clashes(source.passthrough_schema, task.result_schema)
    if taken:
        raise UserError(
            f"INPUT has a column '{taken[0]}', which is the name of one the run adds; rename it"
        )


def _check_vision(config: RunConfig, task: Task, checkpoint: Checkpoint) -> None:
    if ColumnKind.IMAGE in task.columns.values() and not checkpoint.has_vision:
        raise UserError(
            f"model {config.engine.model} is {checkpoint.architecture}, which takes no pictures; "
            f"'{task.name}' needs a Gemma 3 with vision (4B or larger)"
        )


def _fitted(config: RunConfig, checkpoint: Checkpoint) -> RunConfig:
    return config.model_copy(update={"engine": fitted(config.engine, checkpoint)})


def _placement(plan: Plan) -> Placement:
    import ray

    return place(plan.config, ray.cluster_resources())


def _totals(result: RunResult) -> dict[str, Any]:
    return {
        "rows": result.rows,
        "outcomes": dict(result.outcomes),
        "model_class": result.model_class,
        "seconds": round(result.seconds, 1),
        "rows_per_second": round(result.rows_per_second, 2),
    }


class Driver:
    """Follows the receipts of a run and commits its units as they are complete.

    Args:
        plan: The checked run.
        backend: What renders and generates.
        placement: How many actors there are.
    """

    def __init__(self, plan: Plan, backend: Backend, placement: Placement) -> None:
        self._plan = plan
        self._placement = placement
        self._backend = backend
        self._journal = Journal(plan.output, plan.task.result_schema, plan.record)
        self._ledger = Ledger(plan.units)
        self._commits: list[Any] = []
        self._outcomes: Counter[str] = Counter()
        self._model_class: str | None = None
        self._ready: float | None = None
        self._last = time.time()
        self.has_rows = False
        """Whether any row is in the journal or in a part."""

    def drive(self, progress: RunProgress) -> None:
        """Run to the end. Raises RunError where rows are missing then."""
        for receipt in self._flow().receipts():
            self._take(receipt, progress)
        progress.say("writing the last files")
        self._collect(len(self._commits))
        self._check_complete()

    def result(self, seconds: float) -> RunResult:
        """What was committed; `seconds` is the whole run's time."""
        rows = self._outcomes.total()
        working = self._last - self._ready if self._ready else 0.0
        return RunResult(
            output=self._plan.output,
            rows=rows,
            outcomes=dict(self._outcomes),
            model_class=self._model_class,
            seconds=seconds,
            rows_per_second=rows / working if working > 0 else 0.0,
        )

    def _flow(self) -> Flow:
        plan = self._plan
        return Flow(
            units=plan.units,
            source=plan.source,
            config=plan.config,
            task=plan.task,
            journal=self._journal,
            backend=self._backend,
            placement=self._placement,
        )

    def _take(self, receipt: Mapping[str, Any], progress: RunProgress) -> None:
        self._last = time.time()
        self.has_rows = True
        self._model_class = receipt["model_class"] or self._model_class
        self._ready = self._ready or receipt["engine_ready"]
        rows, complete = self._ledger.note(receipt["unit"], receipt["positions"])
        progress.advance(rows, receipt["failed"] if rows else 0)
        if complete is not None:
            self._commit(complete)

    def _commit(self, unit: Unit) -> None:
        """Commit a unit in a task: it reads input, which is not the driver's work."""
        import ray

        # No CPU claimed: the stages hold them all, and a commit that waits would hold its unit.
        commit = ray.remote(num_cpus=0)(commit_unit)
        self._commits.append(commit.remote(self._journal, unit, self._plan.source))
        self._collect(max(0, len(self._commits) - MOST_COMMITS))

    def _collect(self, wanted: int) -> None:
        """Count finished commits, waiting for at least `wanted` of them."""
        import ray

        if not self._commits:
            return
        done, self._commits = ray.wait(
            self._commits,
            num_returns=max(wanted, 1),
            timeout=None if wanted else 0,
        )
        for committed in ray.get(done):
            self._outcomes.update(committed.outcomes)

    def _check_complete(self) -> None:
        incomplete = self._ledger.incomplete()
        if incomplete:
            names = ", ".join(unit.name for unit in incomplete[:3])
            raise RunError(f"{len(incomplete)} unit(s) were not finished: {names}")


def commit_unit(journal: Journal, unit: Unit, source: Source) -> Committed:
    """Commit in another process."""
    return journal.commit(unit, source)
