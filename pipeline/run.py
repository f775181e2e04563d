"""A run over an input, and a retry of its failed rows: one orchestration, two ways to commit.

    check       versions, model, input, output, columns; the store's probe: before Ray starts
    start       Ray; the placement; the claim of OUTPUT; an epoch
    drive       the stages over all work, until it is committed, or until SIGTERM
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
from pipeline.contract.record import Outcome
from pipeline.engine.vllm_engine import VLLM
from pipeline.execution.cluster import cluster
from pipeline.execution.driver import Driver
from pipeline.execution.placement import place
from pipeline.execution.preparation import CheckedRun, check_outcomes, check_pickles, check_run
from pipeline.execution.progress import RunProgress
from pipeline.execution.quiet import quiet
from pipeline.execution.root_cause import raising_root_cause
from pipeline.execution.shutdown import graceful_shutdown
from pipeline.output.cleanup import clean_up_retry, clean_up_run
from pipeline.output.commit import NewParts, PatchedParts
from pipeline.output.counts import committed_units, forget_counts, totals
from pipeline.output.fencing import begin_epoch
from pipeline.output.journal import OF_RETRIES, Journal
from pipeline.output.parts import open_parts
from pipeline.output.plan import extended, open_plan
from pipeline.output.run_record import claim, finish, read_record, withdraw
from pipeline.output.status import failed_work
from pipeline.sources.units import Work
from pipeline.storage.atomic import forget_probe, probe
from pipeline.storage.location import locate
from pipeline.storage.write_fault import naming_output

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    import pyarrow as pa
    import pyarrow.dataset as ds
    from rich.console import Console

    from pipeline.contract.config import RunConfig
    from pipeline.contract.task import Task
    from pipeline.engine.interface import Backend
    from pipeline.execution.placement import Placement
    from pipeline.output.commit import Committer
    from pipeline.output.fencing import Epoch
    from pipeline.storage.location import StorageOptions


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What is in OUTPUT after a run that finished.

    Attributes:
        output: The folder with the parts, an absolute path or a URI.
        rows: Rows in it, one for each input row.
        outcomes: Rows by outcome.
        duplicates: Rows that took the results of an identical one.
        new_rows: Rows that this run computed; the others were there.
        model_class: Module and name of the model class that the engine loaded; None if no row
            reached the engine.
        seconds: From the first check to the last commit, engine start included.
        rows_per_second: From when the first engine was ready to the last row; 0 if none started.
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
        """The rows of OUTPUT in input order, read when they are asked for. Raises OSError."""
        return open_parts(locate(self.output, self.storage_options))

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of OUTPUT in input order, with some columns or all. Raises OSError."""
        return self.dataset().to_table(columns=None if columns is None else [*columns])


@dataclass(frozen=True, kw_only=True)
class _Assignment:
    """What a driver is to do.

    Attributes:
        work: In input order.
        rows: Rows of the whole work.
        rows_done: Those of them that are committed already.
        rows_failed: Those of these without results.
        committer: How the work is committed.
    """

    work: Iterable[Work]
    rows: int
    rows_done: int
    rows_failed: int
    committer: Committer


def run(
    config: RunConfig,
    task: Task,
    *,
    backend: Backend = VLLM,
    console: Console | None = None,
    debug: bool = False,
) -> RunResult:
    """Run a task over an input, or resume such a run.

    Args:
        config: What to run on.
        task: What to do with each row.
        backend: What renders and generates.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: Something in the configuration or the input must be fixed.
        ErrorRateError: More rows failed than `max_error_rate` allows, or the first few hundred all
            failed for one reason; resumable.
        RunError: The run could not be finished; resumable.
        OSError: INPUT or OUTPUT cannot be read.
    """
    began = time.monotonic()
    checked = check_run(config, task, backend)
    if checked.plan is not None:
        plan = extended(checked.plan, checked.output, checked.listing, checked.source)
        if not len(plan.pending(committed_units(plan))):
            return _result(checked, None, began)
    with _probed(checked), cluster(debug=debug), quiet(debug=debug):
        driver = _drive(checked, partial(_all_units, checked), backend, console)
        return _result(checked, driver, began)


def retry(
    config: RunConfig,
    task: Task,
    outcomes: Collection[str],
    *,
    backend: Backend = VLLM,
    console: Console | None = None,
    debug: bool = False,
) -> RunResult:
    """Compute the rows of an OUTPUT that have one of these outcomes again, and replace them there.

    `max_error_rate` is ignored.

    Args:
        config: As for the run that made OUTPUT; what decides results must not differ.
        task: The same.
        outcomes: Names of outcomes.
        backend: What renders and generates.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.

    Raises:
        UserError: OUTPUT is not the run's, an outcome does not exist, or as for `run`.
        RunError: The retry could not be finished; resumable.
        OSError: INPUT or OUTPUT cannot be read.
    """
    began = time.monotonic()
    wanted = check_outcomes(outcomes)
    checked = check_run(config, task, backend)
    if checked.plan is None:
        raise UserError(f"OUTPUT {checked.output} has no results to fix; run the job first")
    work = [*failed_work(checked.plan, wanted)]
    if not work:
        return _result(checked, None, began)
    tolerant = checked.config.model_copy(update={"max_error_rate": 1.0})
    checked = replace(checked, config=tolerant)
    with _probed(checked), cluster(debug=debug), quiet(debug=debug):
        driver = _drive(checked, partial(_failed_rows, checked, work), backend, console)
        return _result(checked, driver, began)


@contextlib.contextmanager
def _probed(checked: CheckedRun) -> Iterator[None]:
    """Check, before Ray starts, that OUTPUT can be written to and its store keeps conditions.

    If what follows fails before OUTPUT is claimed, nothing of it is left.
    """
    output = checked.output
    probe(output, conditions=not checked.config.single_driver)
    try:
        yield
    except BaseException:
        forget_probe(output)
        raise


@contextlib.contextmanager
def _all_units(checked: CheckedRun, epoch: Epoch) -> Iterator[_Assignment]:
    """All units of the input that have no part; cleans up once they have."""
    output = checked.output
    plan = extended(open_plan(output), output, checked.listing, checked.source)
    is_committed = committed_units(plan)
    outcomes = totals(plan).outcomes if is_committed.any() else {}
    yield _Assignment(
        work=(Work(plan.unit(int(index))) for index in plan.pending(is_committed)),
        rows=plan.total_rows,
        rows_done=int(plan.rows[is_committed & plan.is_live].sum()),
        rows_failed=sum(n for name, n in outcomes.items() if not Outcome(name).has_results),
        committer=NewParts(
            journal=Journal(output, checked.task.result_schema),
            source=checked.source,
            run=checked.record,
        ),
    )
    clean_up_run(plan, epoch)


@contextlib.contextmanager
def _failed_rows(checked: CheckedRun, work: Sequence[Work], epoch: Epoch) -> Iterator[_Assignment]:
    """Rows of existing parts; cleans up once they are replaced."""
    output = checked.output
    forget_counts(output)
    try:
        yield _Assignment(
            work=work,
            rows=sum(piece.rows for piece in work),
            rows_done=0,
            rows_failed=0,
            committer=PatchedParts(
                journal=Journal(output, checked.task.result_schema, OF_RETRIES),
                run=checked.record,
            ),
        )
    finally:
        # Again: `status` may have counted a part before its rows were replaced.
        forget_counts(output)
    clean_up_retry((piece.unit.id for piece in work), epoch)


def _drive(
    checked: CheckedRun,
    assign: Callable[[Epoch], AbstractContextManager[_Assignment]],
    backend: Backend,
    console: Console | None,
) -> Driver:
    """Start, finish the assignment and clean up. A failed first run without a row leaves nothing.

    Args:
        checked: The run.
        assign: Gives the driver of an epoch its assignment.
        backend: What renders and generates.
        console: Where progress is shown.
    """
    config, output = checked.config, checked.output
    check_pickles(checked.task)
    placement = _placement(config, backend)
    with raising_root_cause(), naming_output(output):
        is_first = claim(output, checked.record)
        epoch = begin_epoch(output)
        driver: Driver | None = None
        try:
            with (
                assign(epoch) as assignment,
                RunProgress(
                    checked.task.name,
                    assignment.rows,
                    console,
                    there=assignment.rows_done,
                    failed_before=assignment.rows_failed,
                ) as progress,
                graceful_shutdown(config.drain_seconds, progress) as shutdown,
            ):
                driver = Driver(
                    config=config,
                    task=checked.task,
                    source=checked.source,
                    committer=assignment.committer,
                    backend=backend,
                    placement=placement,
                    progress=progress,
                    shutdown=shutdown,
                )
                driver.drive(assignment.work)
        except BaseException:
            if is_first and epoch.number == 1 and epoch.is_newest and not (driver and driver.rows):
                withdraw(output)
            raise
    return driver


def _placement(config: RunConfig, backend: Backend) -> Placement:
    """How the run's actors share the cluster that this process is connected to."""
    import ray

    resources = ray.cluster_resources()
    if not backend.holds_gpus:
        resources.pop("GPU", None)
    return place(config, resources)


def _result(checked: CheckedRun, driver: Driver | None, began: float) -> RunResult:
    """Count what is in OUTPUT and, if a driver did something, record it."""
    seconds = time.monotonic() - began
    plan = open_plan(checked.output)
    assert plan is not None, "a run that finished has a plan"
    counted = totals(plan)
    recorded = read_record(checked.output) or checked.record
    result = RunResult(
        output=str(checked.output),
        rows=counted.rows,
        outcomes=counted.outcomes,
        duplicates=counted.duplicates,
        new_rows=driver.rows if driver else 0,
        model_class=(driver and driver.model_class) or recorded.get("model_class"),
        seconds=seconds,
        rows_per_second=driver.rows_per_second if driver else 0.0,
        storage_options=checked.config.storage_options,
    )
    if driver is not None:
        found = {
            "rows": result.rows,
            "outcomes": dict(result.outcomes),
            "duplicates": result.duplicates,
            "model_class": result.model_class,
            "seconds": round(result.seconds, 1),
            "rows_per_second": round(result.rows_per_second, 2),
        }
        finish(checked.output, checked.record, found)
    return result
