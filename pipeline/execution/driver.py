"""Runs the stages over some work, batch by batch, until all of it is committed.

Work is cut into batches because Ray Data (2.60) keeps something of every block it made: over a long
run, that would fill the driver's memory. Within a batch the driver follows the receipts, commits
units as they become complete, and runs the stages again over the rows that no receipt named: if
they may have gone down with an engine, few at once, and if those are few, isolated, until the
poison rows among them are known.
"""

from __future__ import annotations

import gc
import time
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.contract.errors import RunError, UserError
from pipeline.contract.reason import reason_of
from pipeline.contract.record import Outcome
from pipeline.execution.alarms import Alarms
from pipeline.execution.commits import MOST_COMMITS, Commits
from pipeline.execution.dataflow import WRITES, Flow
from pipeline.execution.depth import ROWS, Care, has_images, longest_block
from pipeline.execution.error_rate import ErrorRate
from pipeline.execution.ledger import Ledger, Noted
from pipeline.execution.root_cause import cause_of
from pipeline.execution.start_watch import watching_start
from pipeline.execution.unfinished import describe_unfinished
from pipeline.metrics.table import FLOW_RESTARTS
from pipeline.output.journal import entry_schema
from pipeline.profiling.measures import Measures, unpacked
from pipeline.profiling.stopwatch import step
from pipeline.sources.units import Work
from pipeline.stages.poison_rows import MAX_DEATHS, PoisonRows
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipeline.contract.config import RunConfig
    from pipeline.contract.task import Task
    from pipeline.engine.interface import Backend
    from pipeline.execution.engine_logs import EngineLogs
    from pipeline.execution.placement import Placement
    from pipeline.execution.progress import RunProgress
    from pipeline.execution.shutdown import Shutdown
    from pipeline.metrics.of_run import RunMetrics
    from pipeline.output.commit import Committer
    from pipeline.output.profile_files import ProfileFile
    from pipeline.profiling.collector import Collector
    from pipeline.sources import Source
    from pipeline.stages.start_board import StartBoard

BATCH_BLOCKS = 100_000
"""Blocks of rows in a batch; each takes some hundred bytes of the driver's memory."""
FRUITLESS_ROUNDS = 3
"""Rounds over the same rows, none of which is finished, before the run gives up."""
MOST_SHOWN = 160
"""Characters that are shown of what Ray says of a loss."""
ISOLATED_ROWS = 1000
"""At most so many missing rows are isolated."""
LOST_ROWS = 2 * ROWS
"""About the most that are missing where a row has ended an engine, for each engine. If more are,
the cause is a lost machine rather than a row."""


class Driver:
    """Drives one run or retry.

    Args:
        config: Limits and sizes.
        task: What is done with each row.
        source: Where rows are read.
        committer: Its journal takes finished rows; it commits complete work, in other processes.
        backend: What renders and generates.
        placement: How many actors there are, and what each one claims.
        progress: Shows how far it is.
        logs: Gets where the engines log.
        shutdown: Ends the run on SIGTERM.
        collector: Adds up what is measured.
        metrics: Tells Prometheus of it.
        profile_file: Where the profile is found meanwhile; None keeps it nowhere.
    """

    _loss = ""
    """What Ray said of the last loss."""
    _are_counted = False
    """Whether all rows that it works on were finished, and counted, once already."""

    def __init__(
        self,
        *,
        config: RunConfig,
        task: Task,
        source: Source,
        committer: Committer,
        backend: Backend,
        placement: Placement,
        progress: RunProgress,
        logs: EngineLogs,
        shutdown: Shutdown,
        collector: Collector,
        metrics: RunMetrics,
        profile_file: ProfileFile | None = None,
    ) -> None:
        self._config = config
        self._task = task
        self._source = source
        self._committer = committer
        self._journal = committer.journal
        self._backend = backend
        self._placement = placement
        self._progress = progress
        self._logs = logs
        self._shutdown = shutdown
        self._collector = collector
        self._metrics = metrics
        self._profile_file = profile_file
        self._poison_rows = PoisonRows(committer.journal.output)
        self._commits = Commits(committer, metrics, self._add_measures)
        self._unreadable: list[tuple[Work, str]] = []
        self._rate = ErrorRate(config.max_error_rate)
        self._alarms = Alarms(progress, committer.journal.output)
        self._ready: float | None = None
        self._last = time.time()
        self.rows = 0
        """Rows that this run finished."""
        self.model_class: str | None = None
        """Module and name of the model class that the engine loaded, once it is known."""

    @property
    def rows_per_second(self) -> float:
        """From when the first engine was ready to the last row; 0 if none started."""
        working = self._last - self._ready if self._ready else 0.0
        return self.rows / working if working > 0 else 0.0

    def drive(self, work: Iterable[Work]) -> None:
        """Compute and commit all work.

        Args:
            work: In input order.

        Raises:
            ErrorRateError: Too many rows failed.
            UserError: A renderer or an engine rejected the configuration.
            OutputError: A stage or a commit cannot write to OUTPUT, and that will last.
            RunError: Some units cannot be finished; all others are committed.
            OSError: The store failed for longer than the backoff.
        """
        begun = self._journal.outcomes()
        images = has_images(self._task.columns.values())
        block_rows = longest_block(self._placement, self._config.block_rows, images=images)
        for batch in _batches(work, BATCH_BLOCKS * block_rows):
            self._tell_begun(batch, begun)
            self._finish(batch, begun)
            for _ in range(FRUITLESS_ROUNDS - 1):
                if not self._commits.failed:
                    break
                self._are_counted = True  # though the journal may lack them now
                self._finish(self._commits.take_failed(), self._journal.outcomes())
            self._are_counted = False
            self._commits.save_counts()
        self._check_complete()
        self._rate.check(least=1)

    def _finish(self, batch: list[Work], begun: Mapping[str, Mapping[int, str | None]]) -> None:
        """Compute and commit a batch, except for units that cannot be read or written."""
        ledger = Ledger(batch, begun)
        for work in ledger.complete():
            self._commits.start(ledger.close(work.unit.id))
        care, fruitless = Care.NONE, 0
        while missing := ledger.work():
            self._stream(ledger, care)
            self._commits.wait()
            self._leave_out_committed(ledger)
            if care is Care.ALONE:
                self._settle_poison_rows(ledger)
            left = _rows(ledger.work())
            fruitless = fruitless + 1 if left == _rows(missing) else 0
            if left:
                self._metrics.happened(FLOW_RESTARTS)
            if fruitless == FRUITLESS_ROUNDS:
                raise RunError(_stuck(ledger.work(), self._loss))
            care = self._care(left, fruitless)
        self._commits.wait()
        self._note_time()

    def _leave_out_committed(self, ledger: Ledger) -> None:
        """Close units that another driver has committed, whose journal it has removed."""
        missing = ledger.work()
        found = in_order(self._committer.is_committed, missing)
        for work, is_committed in zip(missing, found, strict=True):
            if is_committed:
                self._skip(work.rows)
                ledger.close(work.unit.id)

    def _care(self, left: int, fruitless: int) -> Care:
        """How the rows that are left are run."""
        if left <= ISOLATED_ROWS:
            return Care.ALONE
        is_few = fruitless or left <= LOST_ROWS * self._placement.engines
        return Care.FEW if is_few else Care.NONE

    def _tell_begun(
        self, batch: Sequence[Work], begun: Mapping[str, Mapping[int, str | None]]
    ) -> None:
        """Show the rows that an earlier run has left in the journal."""
        for work in batch:
            outcomes = begun.get(work.unit.id, {})
            rows = outcomes.keys() & {*work.missing} if outcomes else ()
            self._skip(len(rows), sum(_is_failure(outcomes[row]) for row in rows))
        self._progress.tell_there()

    def _skip(self, rows: int, failed: int = 0) -> None:
        if self._are_counted:
            return
        self._progress.skip(rows, failed)
        self._metrics.skip(rows)

    def _stream(self, ledger: Ledger, care: Care) -> None:
        """Run the stages over all rows that are missing."""
        from ray.exceptions import RayError

        tells_notes = self._backend.tells_notes
        with watching_start(self._progress, self._logs, tells_notes=tells_notes) as start:
            flow = self._flow(ledger, start.board, care)
            self._expect(flow)
            try:
                for receipt in flow.receipts():
                    start.stop()
                    with step("receipts"):
                        self._take(receipt, ledger)
                    self._note_time()
            except RayError as error:  # such as a lost machine: missing rows are computed again
                self._loss = cause_of(error)
                self._progress.tell(
                    "continuing", f"continuing after: {shorten(self._loss, MOST_SHOWN)}"
                )
            finally:
                self._shutdown.forget()
                # Ray Data (2.60) leaves its actors' handles in reference cycles. Until those are
                # collected, which may be never, the actors hold CPUs and GPUs that the next run
                # needs.
                gc.collect()

    def _flow(self, ledger: Ledger, starts: StartBoard, care: Care) -> Flow:
        """The stages over all rows that are missing."""
        return Flow(
            work=ledger.work(),
            source=self._source,
            config=self._config,
            task=self._task,
            journal=self._journal,
            backend=self._backend,
            placement=self._placement,
            drain=self._shutdown.follow(),
            starts=starts,
            care=care,
            is_done=None if self._config.single_driver else self._committer.is_committed,
        )

    def _expect(self, flow: Flow) -> None:
        """Tell the profile how many processes each stage can have."""
        placement, pieces = self._placement, len(flow.work)
        workers = {
            "read": min(placement.readers, pieces),
            "render": placement.renderers,
            "generate": placement.engines,
            "parse": placement.parsers,
            "journal": placement.parsers * WRITES,
            "commit": min(MOST_COMMITS, pieces),
        }
        self._collector.expect(workers, placement.requests)
        self._metrics.expect(workers)

    def _note_time(self) -> None:
        did = self._collector.note_driver(self.rows)
        self._metrics.measured(Measures(spans=(did,)))
        self._progress.bounded(self._collector.profile)
        if self._profile_file is not None:
            self._profile_file.offer(self._collector.profile)

    def _add_measures(self, measures: Measures) -> None:
        self._collector.add(measures)
        self._metrics.measured(measures)

    def _take(self, receipt: Mapping[str, Any], ledger: Ledger) -> None:
        self._last = time.time()
        self.model_class = receipt["model_class"] or self.model_class
        self._ready = self._ready or receipt["engine_ready"]
        self._shutdown.receive(len(receipt["positions"]))
        self._add_measures(unpacked([receipt["measures"]]))
        unit, fault = receipt["unit"], receipt["fault"]
        same_as = dict(zip(receipt["positions"], receipt["same_as"], strict=True))
        outcomes = dict(zip(receipt["positions"], receipt["outcomes"], strict=True))
        noted = self._noted(ledger, unit, same_as, outcomes)
        self._metrics.finished(noted.outcomes, receipt["prompt_tokens"], receipt["output_tokens"])
        self._progress.advance(noted.outcomes, receipt["prompt_tokens"], receipt["output_tokens"])
        self._count(noted, receipt["reasons"], receipt["error"], kept=receipt["kept"])
        if noted.complete is not None:
            self._commits.start(noted.complete)
        if fault is not None and receipt["ends_run"]:
            raise (UserError if receipt["is_users"] else RunError)(fault)
        if fault is not None and ledger.is_open(unit):  # otherwise another try has read it
            self._unreadable.append((ledger.close(unit), fault))

    def _noted(
        self,
        ledger: Ledger,
        unit_id: str,
        same_as: Mapping[int, int | None],
        outcomes: Mapping[int, str],
    ) -> Noted:
        """Take in rows that are in the journal now. Returns those that are not counted yet."""
        noted = ledger.note(unit_id, same_as, outcomes)
        return Noted(complete=noted.complete) if self._are_counted else noted

    def _count(
        self, noted: Noted, reasons: Iterable[str], error: str | None, *, kept: bool = False
    ) -> None:
        self.rows += noted.rows
        self._alarms.note(noted.outcomes)
        if kept:  # these could not fail
            return
        self._rate.note(noted.rows, noted.failed, reasons=reasons, error=error)

    def _settle_poison_rows(self, ledger: Ledger) -> None:
        """Give poison rows their outcome."""
        for work in ledger.work():
            found = self._poison_rows.found(work.unit.id)
            poison = {row: found[row] for row in work.missing if row in found}
            if not poison:
                continue
            entries = [_poison_entry(row, stage) for row, stage in poison.items()]
            table = pa.Table.from_pylist(entries, schema=entry_schema(self._task.result_schema))
            self._journal.append(work.unit.id, table)
            settled = dict.fromkeys(poison, str(Outcome.ENGINE_ERROR))
            noted = self._noted(ledger, work.unit.id, dict.fromkeys(poison), settled)
            self._metrics.finished(noted.outcomes, 0, 0)
            self._progress.advance(noted.outcomes)
            if noted.complete is not None:
                self._poison_rows.clear(noted.complete.unit.id)
                self._commits.start(noted.complete)
            error = entries[0]["error"]
            self._count(noted, [reason_of(Outcome.ENGINE_ERROR, error)], error)

    def _check_complete(self) -> None:
        if self._unreadable or self._commits.failed:
            raise RunError(
                describe_unfinished(
                    self._unreadable,
                    [*self._commits.failed.values()],
                    is_pinned=self._config.input.startswith("hf://"),
                )
            )


def _batches(work: Iterable[Work], batch_rows: int) -> Iterator[list[Work]]:
    """Group work so that each group but the last has `batch_rows` rows or a few more."""
    batch: list[Work] = []
    rows = 0
    for piece in work:
        batch.append(piece)
        rows += piece.rows
        if rows >= batch_rows:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def _rows(work: Iterable[Work]) -> int:
    return sum(piece.rows for piece in work)


def _stuck(work: Sequence[Work], loss: str) -> str:
    """What is said of rows that are not finished; `loss` is what Ray said last, if anything."""
    others = f" and {len(work) - 1} other unit(s)" if len(work) > 1 else ""
    return (
        f"{_rows(work):,} row(s) of {work[0].unit.name}{others} could not be finished: their "
        f"processes or the store failed again and again{f'; the last: {loss}' if loss else ''}\n"
        "What is finished is kept; run the same command again."
    )


def _is_failure(outcome: str | None) -> bool:
    return outcome is not None and not Outcome(outcome).has_results


def _poison_entry(row: int, stage: str) -> dict[str, Any]:
    message = (
        f"{stage}: the process died or hung {MAX_DEATHS} times while it worked on this row alone"
    )
    return {"position": row, "outcome": Outcome.ENGINE_ERROR, "error": message}
