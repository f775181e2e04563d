"""A run over an input, and a retry of its failed rows: one orchestration, two ways to commit.

    check       versions, model, input, output, columns, other runs: before anything is written
    begin       the store's probe; the claim of OUTPUT; an epoch with its heartbeat; the plan
    drive       Ray; the placement; whether all machines see INPUT and OUTPUT; the stages over all
                work until it is committed, or SIGTERM or Ctrl-C
    finish      the newest driver cleans up; the totals are counted and recorded

Either every row of the work is accounted for, or an error is raised. OUTPUT holds whole parts in
both cases, and the same command resumes.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pipeline.contract.errors import UserError
from pipeline.contract.record import Outcome, merged_column
from pipeline.engine.backends import backend_of
from pipeline.execution.cluster import cluster, starts_own_cluster
from pipeline.execution.display.display import Display, display_of
from pipeline.execution.driver import Driver
from pipeline.execution.engine_logs import EngineLogs
from pipeline.execution.placement import place
from pipeline.execution.preparation import CheckedRun, check_outcomes, check_pickles, check_run
from pipeline.execution.progress import RunProgress
from pipeline.execution.quiet import quiet
from pipeline.execution.root_cause import raising_root_cause
from pipeline.execution.shared_folders import check_shared_folders
from pipeline.execution.shutdown import graceful_shutdown
from pipeline.metrics.labels import RunLabels
from pipeline.metrics.of_run import RunMetrics
from pipeline.output.cleanup import clean_up_retry, clean_up_run
from pipeline.output.commit import NewParts, PatchedParts
from pipeline.output.counts import committed_units, totals
from pipeline.output.extension import extended, without_gone
from pipeline.output.formats import FORMATS
from pipeline.output.heartbeat import Others, check_alone, turn
from pipeline.output.journal import OF_RETRIES, Journal
from pipeline.output.order import shuffled
from pipeline.output.plan import open_plan
from pipeline.output.profile_files import ProfileFile
from pipeline.output.results import open_results
from pipeline.output.run_record import claim, finish, read_record, withdraw
from pipeline.output.sidecars import WithSidecars
from pipeline.output.status import failed_work
from pipeline.profiling.collector import Collector
from pipeline.sources.units import Work
from pipeline.storage.atomic import probe
from pipeline.storage.location import locate
from pipeline.storage.write_fault import naming_output, writing_to

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    import pyarrow as pa
    import pyarrow.dataset as ds
    from rich.console import Console

    from pipeline.contract.config import RunConfig
    from pipeline.contract.task import Task
    from pipeline.engine.interface import Backend
    from pipeline.execution.display.json_log import JsonLog
    from pipeline.execution.placement import Placement
    from pipeline.output.commit import Committer
    from pipeline.output.heartbeat import Turn
    from pipeline.output.plan import Plan
    from pipeline.profiling.profile import Profile
    from pipeline.sources import Selection, Skipped, Source
    from pipeline.sources.units import Unit
    from pipeline.storage.location import StorageOptions


RUN, RETRY = "run", "retry"
"""Kinds of work in an OUTPUT."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What is in OUTPUT after a run that finished.

    Attributes:
        output: The folder with the parts, an absolute path or a URI.
        rows: Rows in it, one for each input row.
        outcomes: Rows by outcome.
        duplicates: Rows that took the results of an identical one.
        skipped: The files of INPUT that are not read, by reason.
        new_rows: Rows that this run computed; the others were there.
        model_class: Module and name of the model class that the engine loaded; None if no row
            reached the engine.
        seconds: From the first check to the last commit, engine start included.
        rows_per_second: From when the first engine was ready to the last row; 0 if none started.
        left_out: Input files whose rows were planned and not finished, and are no longer planned,
            because the files are not in INPUT any more.
        profile: Where the time went; None if there was nothing to compute.
        storage_options: With which OUTPUT can be read.
    """

    output: str
    rows: int
    outcomes: Mapping[str, int]
    duplicates: int
    skipped: tuple[Skipped, ...] = ()
    new_rows: int
    model_class: str | None
    seconds: float
    rows_per_second: float
    left_out: Sequence[str] = ()
    profile: Profile | None = field(default=None, repr=False, compare=False)
    storage_options: StorageOptions = field(default_factory=dict, repr=False, compare=False)

    def dataset(self) -> ds.Dataset:
        """The rows of OUTPUT in input order, read when they are asked for. Raises OSError."""
        return open_results(locate(self.output, self.storage_options))

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of OUTPUT in input order, with some columns or all. Raises OSError."""
        return self.dataset().to_table(columns=None if columns is None else [*columns])

    def _repr_html_(self) -> str | None:
        """What a notebook shows: some rows; without OUTPUT the text form alone."""
        from pipeline.output.glance import glance  # Pillow takes a while to import

        try:
            where = locate(self.output, self.storage_options)
            return glance(where, self.outcomes, self.storage_options)
        except Exception:  # a cell that ran well should not end in an error
            return None


@dataclass(frozen=True, kw_only=True)
class _Assignment:
    """What a driver is to do.

    Attributes:
        work: In input order.
        rows: Rows of the whole work.
        rows_done: Those of them that are committed already.
        rows_failed: Those of these without results.
        source: Where rows are read, with the columns of the whole plan.
        committer: How the work is committed.
        left_out: See `RunResult`.
    """

    work: Iterable[Work]
    rows: int
    rows_done: int
    rows_failed: int
    source: Source
    committer: Committer
    left_out: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A run or a retry, as it was checked.

    Attributes:
        checked: What it is on.
        kind: `run` or `retry`.
        backend: What renders and generates.
        display: Shows it.
        debug: Show what Ray and the workers print.
        collector: Measures where its time goes.
        logs: Where its engines log.
    """

    checked: CheckedRun
    kind: str
    backend: Backend
    display: Display
    debug: bool
    collector: Collector
    logs: EngineLogs = field(default_factory=EngineLogs)

    def say(self, text: str) -> None:
        """Show what it is doing before it has progress to show."""
        self.display.tell("state", text)


@dataclass(frozen=True, kw_only=True)
class _Done:
    """What was done: the driver, if there was something to compute, and its assignment.

    Attributes:
        driver: The driver.
        assignment: What it was to do.
        profile: Where its time went; None without a driver.
    """

    driver: Driver | None
    assignment: _Assignment
    profile: Profile | None = None


def run(
    config: RunConfig,
    task: Task,
    *,
    backend: Backend | None = None,
    console: Console | JsonLog | None = None,
    debug: bool = False,
    chosen: Selection | None = None,
    collector: Collector | None = None,
) -> RunResult:
    """Run a task over an input, or resume such a run.

    Args:
        config: What to run on.
        task: What to do with each row.
        backend: What renders and generates; by default what `config.engine` asks for.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.
        chosen: The rows that are taken, in place of those that `config` says; for a new OUTPUT.
        collector: Adds up what is measured; by default one of its own.

    Raises:
        UserError: Something in the configuration or the input must be fixed, or another run is at
            work in OUTPUT.
        ErrorRateError: More rows failed than `max_error_rate` allows, or the first few hundred all
            failed for one reason; resumable.
        RunError: The run could not be finished; resumable.
        OSError: INPUT or OUTPUT cannot be read.
    """
    began, collector = time.monotonic(), collector or Collector()
    backend = backend or backend_of(config.engine)
    checked = check_run(config, task, backend)
    if chosen is not None:
        checked = replace(checked, selection=chosen)
    collector.moment("checked")
    if checked.plan is not None and not checked.changes and _is_finished(checked):
        return _result(checked, None, began)
    job = _Job(
        checked=checked,
        kind=RUN,
        backend=backend,
        display=display_of(task.name, console),
        debug=debug,
        collector=collector,
    )
    return _result(checked, _finish(job, partial(_all_units, checked)), began)


def retry(
    config: RunConfig,
    task: Task,
    outcomes: Collection[str],
    *,
    backend: Backend | None = None,
    console: Console | JsonLog | None = None,
    debug: bool = False,
) -> RunResult:
    """Compute the rows of an OUTPUT that have one of these outcomes again, and replace them there.

    `max_error_rate` is ignored.

    Args:
        config: As for the run that made OUTPUT; what decides results must not differ.
        task: The same.
        outcomes: Names of outcomes.
        backend: What renders and generates; by default what `config.engine` asks for.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: OUTPUT is not the run's, an outcome does not exist, or as for `run`.
        RunError: The retry could not be finished; resumable.
        OSError: INPUT or OUTPUT cannot be read.
    """
    began, collector = time.monotonic(), Collector()
    backend = backend or backend_of(config.engine)
    wanted = check_outcomes(outcomes)
    checked = check_run(config, task, backend, retries=True)
    collector.moment("checked")
    if checked.plan is None:
        raise UserError(f"OUTPUT {checked.output} has no results to fix; run the job first")
    work = [*failed_work(checked.plan, wanted, checked.config.prefix or "")]
    if not work and not _lacks_sidecars(checked, checked.plan):
        return _result(checked, None, began)
    tolerant = checked.config.model_copy(update={"max_error_rate": 1.0, "missing": None})
    checked = replace(checked, config=tolerant)
    job = _Job(
        checked=checked,
        kind=RETRY,
        backend=backend,
        display=display_of(task.name, console),
        debug=debug,
        collector=collector,
    )
    return _result(checked, _finish(job, partial(_failed_rows, checked, work, wanted)), began)


def _is_finished(checked: CheckedRun) -> bool:
    plan = checked.plan
    assert plan is not None, "a run without a plan has not begun"
    return not len(plan.pending(committed_units(plan))) and not _lacks_sidecars(checked, plan)


def _lacks_sidecars(checked: CheckedRun, plan: Plan) -> bool:
    return checked.sidecars is not None and bool(checked.sidecars.lacking(plan))


def _with_sidecars(checked: CheckedRun, committer: Committer) -> Committer:
    if checked.sidecars is None:
        return committer
    return WithSidecars(committer=committer, sidecars=checked.sidecars)


@contextlib.contextmanager
def _all_units(checked: CheckedRun, mine: Turn) -> Iterator[_Assignment]:
    """All units of the input that have no part; cleans up once they have."""
    output, changes = checked.output, checked.changes
    suffix = FORMATS[checked.config.output_format].suffix
    plan = extended(
        checked.plan,
        output,
        checked.listing,
        checked.source,
        changes,
        checked.selection,
        suffix=suffix,
    )
    is_committed = committed_units(plan)
    left_out: Sequence[str] = ()
    if changes is not None and not mine.beside:  # another run may have a larger input
        plan, left_out = without_gone(plan, is_committed, changes.gone)
        is_committed = committed_units(plan) if left_out else is_committed
    outcomes = totals(plan, saves=True).outcomes if is_committed.any() else {}
    source = checked.source
    if source.schema != plan.schema:  # another driver was faster, over a larger input
        source = source.with_schema(plan.schema)
    yield _Assignment(
        work=map(Work, _in_order(plan, plan.pending(is_committed), checked.config)),
        rows=plan.total_rows,
        rows_done=int(plan.rows[is_committed].sum()),
        rows_failed=sum(n for name, n in outcomes.items() if not Outcome(name).has_results),
        source=source,
        committer=_with_sidecars(
            checked,
            NewParts(
                journal=Journal(output, checked.task.result_schema),
                source=source,
                run=checked.record,
                prefix=checked.config.prefix or "",
                merged=merged_column(
                    checked.task.result_schema.names,
                    checked.config.missing,
                    checked.config.prefix or "",
                ),
            ),
        ),
        left_out=left_out,
    )
    clean_up_run(plan, mine.epoch)
    if checked.sidecars is not None:
        checked.sidecars.write_lacking(plan)


def _in_order(plan: Plan, indices: np.ndarray, config: RunConfig) -> Iterator[Unit]:
    """Units in the order in which they are worked on: that of the input, or a random one."""
    if config.shuffle:
        return shuffled(plan, indices, config.sample_seed)
    return (plan.unit(int(index)) for index in indices)


@contextlib.contextmanager
def _failed_rows(
    checked: CheckedRun, work: Sequence[Work], outcomes: Collection[str], mine: Turn
) -> Iterator[_Assignment]:
    """Rows of existing parts; cleans up once they are replaced."""
    journal = Journal(checked.output, checked.task.result_schema, OF_RETRIES)
    if not any(other.work == RETRY for other in mine.beside):  # whose failures these may be
        journal.forget_failures(outcomes)
    yield _Assignment(
        work=work,
        rows=sum(piece.rows for piece in work),
        rows_done=0,
        rows_failed=0,
        source=checked.source,
        committer=_with_sidecars(
            checked,
            PatchedParts(journal=journal, run=checked.record, prefix=checked.config.prefix or ""),
        ),
    )
    clean_up_retry((piece.unit.id for piece in work), mine.epoch)
    if checked.sidecars is not None and checked.plan is not None:
        checked.sidecars.write_lacking(checked.plan)


def _finish(job: _Job, assign: Callable[[Turn], AbstractContextManager[_Assignment]]) -> _Done:
    """Begin, finish the assignment and clean up. A failed first run without a row leaves nothing.

    Args:
        job: The run or retry.
        assign: Gives a driver its assignment.
    """
    config, output = job.checked.config, job.checked.output
    others = Others(output, job.say)
    if not config.join:
        check_alone(output, others)
    check_pickles(job.checked.task)
    probe(output, conditions=not config.single_driver)
    with writing_to(output):
        is_first = claim(output, job.checked.record)
    with (
        job.logs.naming(),
        raising_root_cause(),
        naming_output(output),
        turn(output, job.kind, others, joins=config.join) as mine,
    ):
        driver: Driver | None = None
        try:
            with assign(mine) as assignment:
                if assignment.rows_done < assignment.rows:
                    job.collector.moment("planned")
                    with (
                        _engine_ahead(job) as backend,
                        cluster(debug=job.debug, say=job.say),
                        quiet(debug=job.debug),
                        _driver(replace(job, backend=backend), assignment, mine) as driver,
                    ):
                        driver.drive(assignment.work)
        except BaseException:
            epoch = mine.epoch
            if is_first and epoch.number == 1 and epoch.is_newest and not (driver and driver.rows):
                mine.heartbeat.stop()
                withdraw(output)
            raise
    profile = job.collector.profile() if driver else None
    return _Done(driver=driver, assignment=assignment, profile=profile)


@contextlib.contextmanager
def _engine_ahead(job: _Job) -> Iterator[Backend]:
    """The backend, of which a part starts already where this machine's Ray has yet to start."""
    backend = job.backend
    if backend.ahead is None or not starts_own_cluster():
        yield backend
        return
    with backend.ahead(job.checked.config.engine) as make:
        yield replace(backend, engine=make)


@contextlib.contextmanager
def _driver(job: _Job, assignment: _Assignment, mine: Turn) -> Iterator[Driver]:
    """A driver whose progress is shown, and which SIGTERM ends gracefully; once Ray runs."""
    config, task = job.checked.config, job.checked.task
    job.collector.moment("ray")
    placement = _placement(config, job.backend)
    check_shared_folders(config, job.checked.listing, job.checked.output)
    job.collector.moment("placed")
    with (
        _profiled(job.collector, mine) as profile_file,
        RunProgress(
            job.display,
            assignment.rows,
            there=assignment.rows_done,
            failed_before=assignment.rows_failed,
        ) as progress,
        graceful_shutdown(config.drain_seconds, progress) as shutdown,
        RunMetrics(
            RunLabels.of(str(job.checked.output), task.name),
            assignment.rows,
            assignment.rows_done,
        ) as metrics,
    ):
        job.logs.tell_on(progress)
        yield Driver(
            config=config,
            task=task,
            source=assignment.source,
            committer=assignment.committer,
            backend=job.backend,
            placement=placement,
            progress=progress,
            logs=job.logs,
            shutdown=shutdown,
            collector=job.collector,
            metrics=metrics,
            profile_file=profile_file,
        )


@contextlib.contextmanager
def _profiled(collector: Collector, mine: Turn) -> Iterator[ProfileFile]:
    """Within the block the profile is in a file; as it is at the end, it stays there."""
    file = ProfileFile(mine.epoch)
    file.offer(collector.profile)
    try:
        yield file
    finally:
        file.close(collector.profile())


def _placement(config: RunConfig, backend: Backend) -> Placement:
    """How the run's actors share the cluster that this process is connected to."""
    import ray

    resources = ray.cluster_resources()
    if not backend.holds_gpus:
        resources.pop("GPU", None)
    return place(config, resources)


def _result(checked: CheckedRun, done: _Done | None, began: float) -> RunResult:
    """Count what is in OUTPUT and, if something was done, record it."""
    seconds = time.monotonic() - began
    plan = open_plan(checked.output)
    assert plan is not None, "a run that finished has a plan"
    counted = totals(plan, saves=done is not None)
    recorded = read_record(checked.output) or checked.record
    driver = done.driver if done else None
    result = RunResult(
        output=str(checked.output),
        rows=counted.rows,
        outcomes=counted.outcomes,
        duplicates=counted.duplicates,
        skipped=checked.listing.skipped,
        new_rows=driver.rows if driver else 0,
        model_class=(driver and driver.model_class) or recorded.get("model_class"),
        seconds=seconds,
        rows_per_second=driver.rows_per_second if driver else 0.0,
        left_out=done.assignment.left_out if done else (),
        profile=done.profile if done else None,
        storage_options=checked.config.storage_options,
    )
    if done is not None:
        found = {
            "rows": result.rows,
            "outcomes": dict(result.outcomes),
            "duplicates": result.duplicates,
            "model_class": result.model_class,
            "seconds": round(result.seconds, 1),
            "rows_per_second": round(result.rows_per_second, 2),
            "left_out": [*result.left_out],
            "profile": done.profile.to_json() if done.profile else recorded.get("profile", {}),
        }
        finish(checked.output, checked.record, found)
    return result
