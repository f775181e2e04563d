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
from pipeline.engine.backends import backend_of
from pipeline.execution.assignment import (
    RETRY,
    RUN,
    Assignment,
    all_units,
    failed_rows,
    is_finished,
    lacks_sidecars,
)
from pipeline.execution.cluster import cluster, starts_own_cluster
from pipeline.execution.display.display import Display, display_of
from pipeline.execution.driver import Driver
from pipeline.execution.engine_logs import EngineLogs
from pipeline.execution.placement import machine_gpus, place
from pipeline.execution.preparation import CheckedRun, check_outcomes, check_pickles, check_run
from pipeline.execution.progress import RunProgress
from pipeline.execution.quiet import quiet
from pipeline.execution.root_cause import raising_root_cause
from pipeline.execution.shared_folders import check_shared_folders
from pipeline.execution.shutdown import graceful_shutdown
from pipeline.metrics.labels import RunLabels
from pipeline.metrics.of_run import RunMetrics
from pipeline.output.counts import totals
from pipeline.output.heartbeat import Others, check_alone, turn
from pipeline.output.plan import open_plan
from pipeline.output.profile_files import ProfileFile
from pipeline.output.result import RunResult
from pipeline.output.run_record import claim, finish, read_record, withdraw
from pipeline.profiling.collector import Collector
from pipeline.storage.atomic import probe
from pipeline.storage.write_fault import naming_output, writing_to

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from contextlib import AbstractContextManager

    from rich.console import Console

    from pipeline.contract.config import RunConfig
    from pipeline.contract.task import Task
    from pipeline.engine.interface import Backend
    from pipeline.execution.display.json_log import JsonLog
    from pipeline.execution.placement import Placement
    from pipeline.output.heartbeat import Turn
    from pipeline.profiling.profile import Profile
    from pipeline.sources import Selection


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
    assignment: Assignment
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
    if checked.plan is not None and not checked.changes and is_finished(checked):
        return _result(checked, None, began)
    job = _Job(
        checked=checked,
        kind=RUN,
        backend=backend,
        display=display_of(task.name, console),
        debug=debug,
        collector=collector,
    )
    return _result(checked, _finish(job, partial(all_units, checked)), began)


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
        UserError: OUTPUT is not the run's, an outcome does not exist, a file of INPUT that has such
            rows has changed, or as for `run`.
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
    has_work = not totals(checked.plan).outcomes.keys().isdisjoint(wanted)
    if not has_work and not lacks_sidecars(checked, checked.plan):
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
    return _result(checked, _finish(job, partial(failed_rows, checked, wanted)), began)


def _finish(job: _Job, assign: Callable[[Turn], AbstractContextManager[Assignment]]) -> _Done:
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
def _driver(job: _Job, assignment: Assignment, mine: Turn) -> Iterator[Driver]:
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

    return place(config, ray.cluster_resources(), machine_gpus(), backend)


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
            "new_rows": result.new_rows,
            "seconds": round(result.seconds, 1),
            "rows_per_second": round(result.rows_per_second, 2),
            "left_out": [*result.left_out],
            "profile": done.profile.to_json() if done.profile else recorded.get("profile", {}),
        }
        finish(checked.output, checked.record, found)
    return result
