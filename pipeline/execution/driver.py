"""Drives the stages over some work, batch by batch, until every row of it is where it belongs.

A batch is as much as Ray Data runs over at once; it keeps something of every block it made, so a run
of any length in one go would fill the driver's memory (2.60). Within a batch the driver follows the
receipts, commits units as they are complete, and does again what the receipts never named: few rows
one by one, until those that end their processes are known. What a commit is (a new part, or rows of
one replaced) is the caller's to say.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.contract.errors import RunError, UserError, one_line
from pipeline.contract.record import Outcome
from pipeline.execution.dataflow import Flow
from pipeline.execution.error_rate import ErrorRate
from pipeline.execution.ledger import Ledger
from pipeline.output.counts import save_counts
from pipeline.output.journal import entry_schema
from pipeline.sources.units import Work
from pipeline.stages.poison_rows import MAX_DEATHS, PoisonRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipeline.contract.config import RunConfig
    from pipeline.contract.task import Task
    from pipeline.engine.interface import Backend
    from pipeline.execution.placement import Placement
    from pipeline.execution.progress import RunProgress
    from pipeline.output.commit import Committer
    from pipeline.output.parts import Committed
    from pipeline.sources import Source

MOST_COMMITS = 8
"""Commits in flight; beyond that the driver waits."""
BATCH_BLOCKS = 100_000
"""Blocks of rows in a batch: some hundred bytes of the driver's memory each."""
FRUITLESS_ROUNDS = 3
"""Rounds over the same rows without one more of them finished, before the run is given up."""
ISOLATED_ROWS = 1000
"""So few rows are done again one by one in any case."""


class Driver:
    """Follows one run.

    Args:
        config: Limits and sizes.
        task: What is done with a row.
        source: Where rows are read.
        committer: Its journal takes finished rows; it commits complete work, in other processes.
        backend: What renders and generates.
        placement: How many actors there are.
        progress: Where it is told.
    """

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
    ) -> None:
        self._config = config
        self._task = task
        self._source = source
        self._committer = committer
        self._journal = committer.journal
        self._backend = backend
        self._placement = placement
        self._progress = progress
        self._poison_rows = PoisonRows(committer.journal.output)
        self._commits: dict[Any, Work] = {}
        self._counts: list[tuple[str, Committed]] = []
        self._uncommitted: dict[str, tuple[Work, str]] = {}
        self._unreadable: dict[str, str] = {}
        self._rate = ErrorRate(config.max_error_rate)
        self._ready: float | None = None
        self._last = time.time()
        self.rows = 0
        """Rows this run finished."""
        self.model_class: str | None = None
        """The class that the engine loaded, once it is known."""

    @property
    def rows_per_second(self) -> float:
        """From the first engine's being ready to the last row; 0 if none was needed."""
        working = self._last - self._ready if self._ready else 0.0
        return self.rows / working if working > 0 else 0.0

    def drive(self, work: Iterable[Work]) -> None:
        """Finish all work, which is in input order.

        Raises:
            ErrorRateError: Too many rows fail.
            UserError: Renderers or engines find the configuration wrong.
            RunError: Some units cannot be finished; the others are.
        """
        begun = self._journal.begun()
        for batch in _batches(work, BATCH_BLOCKS * self._config.block_rows):
            self._finish(batch, begun)
            for _ in range(FRUITLESS_ROUNDS - 1):
                if not self._uncommitted:
                    break
                again = [work for work, _ in self._uncommitted.values()]
                self._uncommitted.clear()
                self._finish(again, self._journal.begun())
            save_counts(self._journal.output, self._counts)
            self._counts.clear()
        self._check_complete()
        self._rate.check(least=1)

    def _finish(self, batch: list[Work], begun: Mapping[str, set[int]]) -> None:
        """Do a batch's work, as far as its units can be read and written."""
        ledger = Ledger(batch, begun)
        self._progress.skip(sum(work.rows for work in batch) - _rows(ledger.work()))
        for work in ledger.complete():
            self._commit(ledger.close(work.unit.id))
        is_isolated, fruitless = False, 0
        while missing := ledger.work():
            self._stream(ledger, is_isolated=is_isolated)
            self._collect(len(self._commits))
            self._close_finished_elsewhere(ledger)
            if is_isolated:
                self._settle_poison_rows(ledger)
            left = _rows(ledger.work())
            fruitless = fruitless + 1 if left == _rows(missing) else 0
            if fruitless == FRUITLESS_ROUNDS:
                raise RunError(_stuck(ledger.work()))
            # Where many are left, a machine was lost rather than a row to blame.
            is_isolated = left <= max(ISOLATED_ROWS, _rows(batch) // 20)
        self._collect(len(self._commits))

    def _stream(self, ledger: Ledger, *, is_isolated: bool) -> None:
        """One run of the stages over all that is missing."""
        from ray.exceptions import RayError

        flow = Flow(
            work=ledger.work(),
            source=self._source,
            config=self._config,
            task=self._task,
            journal=self._journal,
            backend=self._backend,
            placement=self._placement,
            is_isolated=is_isolated,
        )
        try:
            for receipt in flow.receipts():
                self._take(receipt, ledger)
        except RayError as error:  # a machine was lost, say: what is missing is done again
            self._progress.say(f"going on after: {one_line(error, 120)}")
        finally:
            # Ray Data (2.60) leaves its actors' handles in cycles. Until they are collected, which
            # may be never, the actors hold the CPUs and GPUs that the next run waits for.
            gc.collect()

    def _take(self, receipt: Mapping[str, Any], ledger: Ledger) -> None:
        self._last = time.time()
        self.model_class = receipt["model_class"] or self.model_class
        self._ready = self._ready or receipt["engine_ready"]
        unit = receipt["unit"]
        rows, complete = ledger.note(unit, receipt["positions"])
        self._count(unit, rows, receipt["failed"] if rows else 0, receipt["error"])
        if complete is not None:
            self._commit(complete)
        if receipt["fault"] is not None:
            if receipt["ends_run"]:
                raise (UserError if receipt["is_users"] else RunError)(receipt["fault"])
            self._unreadable[receipt["unit"]] = receipt["fault"]
            ledger.close(receipt["unit"])

    def _count(self, unit_id: str, rows: int, failed: int, error: str | None) -> None:
        self.rows += rows
        self._progress.advance(rows, failed)
        self._rate.note(unit_id, rows, failed, error)

    def _commit(self, work: Work) -> None:
        """Commit in a task: it reads input, which is not the driver's work."""
        import ray

        # No CPU claimed: the stages hold them all, and a commit that waits would hold its unit.
        commit = ray.remote(num_cpus=0)(commit_or_reason)
        reply = commit.remote(self._committer, work)
        self._commits[reply] = work
        self._collect(max(0, len(self._commits) - MOST_COMMITS))

    def _collect(self, wanted: int) -> None:
        """Count finished commits, waiting for at least `wanted` of them."""
        import ray
        from ray.exceptions import RayError

        if not self._commits:
            return
        done, _ = ray.wait(
            [*self._commits], num_returns=max(wanted, 1), timeout=None if wanted else 0
        )
        for reply in done:
            work = self._commits.pop(reply)
            try:
                committed = ray.get(reply)
            except RayError as error:
                committed = one_line(error)
            if isinstance(committed, str):
                self._uncommitted[work.unit.id] = (work, committed)
            else:
                self._counts.append((work.unit.part, committed))
                self._rate.settle(work.unit.id, committed)

    def _close_finished_elsewhere(self, ledger: Ledger) -> None:
        """Another driver may have committed a unit and taken its journal away."""
        for work in ledger.work():
            if self._committer.is_committed(work):
                self._progress.skip(work.rows)
                ledger.close(work.unit.id)

    def _settle_poison_rows(self, ledger: Ledger) -> None:
        """Give rows that end their processes an outcome."""
        for work in ledger.work():
            poisonous = self._poison_rows.found(work.unit.id)
            blamed = {row: poisonous[row] for row in work.missing if row in poisonous}
            if not blamed:
                continue
            entries = [_poison_entry(row, stage) for row, stage in blamed.items()]
            table = pa.Table.from_pylist(entries, schema=entry_schema(self._task.result_schema))
            self._journal.append(work.unit.id, table)
            rows, complete = ledger.note(work.unit.id, blamed)
            self._count(work.unit.id, rows, rows, entries[0]["error"])
            if complete is not None:
                self._poison_rows.clear(complete.unit.id)
                self._commit(complete)

    def _check_complete(self) -> None:
        faults = [
            *self._unreadable.values(),
            *(f"{work.unit.name}: {fault}" for work, fault in self._uncommitted.values()),
        ]
        if faults:
            raise RunError(
                f"{len(faults)} unit(s) could not be finished, all others are: {faults[0]}\n"
                "Fix the cause and run the same command again."
            )


def commit_or_reason(committer: Committer, work: Work) -> Committed | str:
    """Commit, in another process; a text says why that is not possible."""
    try:
        return committer.commit(work)
    except (RunError, OSError, pa.ArrowException) as error:
        return str(error) if isinstance(error, RunError) else one_line(error)


def _batches(work: Iterable[Work], most_rows: int) -> Iterator[list[Work]]:
    """Work in groups of about so many rows."""
    batch: list[Work] = []
    for piece in work:
        batch.append(piece)
        if _rows(batch) >= most_rows:
            yield batch
            batch = []
    if batch:
        yield batch


def _rows(work: Iterable[Work]) -> int:
    return sum(piece.rows for piece in work)


def _stuck(work: Sequence[Work]) -> str:
    others = f" and {len(work) - 1} other unit(s)" if len(work) > 1 else ""
    return (
        f"{_rows(work):,} row(s) of {work[0].unit.name}{others} could not be finished: their "
        "processes or the store failed again and again\n"
        "What is finished is kept; run the same command again."
    )


def _poison_entry(row: int, stage: str) -> dict[str, Any]:
    message = (
        f"{stage}: the process died or stood still {MAX_DEATHS} times while it worked on this row "
        "alone"
    )
    return {"position": row, "outcome": Outcome.ENGINE_ERROR, "error": message}
