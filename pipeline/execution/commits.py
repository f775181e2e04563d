"""Decides how many units are committed at once, and what becomes of a commit that failed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import Fault, RunError, one_line
from pipeline.metrics.table import COMMIT_FAULTS, UNITS
from pipeline.output.counts import save_counts
from pipeline.profiling.measures import Measures, Stretch
from pipeline.profiling.stopwatch import step
from pipeline.storage.write_fault import OutputError, naming_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.metrics.of_run import RunMetrics
    from pipeline.output.commit import Committer
    from pipeline.output.parts import Committed
    from pipeline.sources.units import Work

COUNTED_PARTS = 1000
"""Parts whose counts are kept together; if the driver is killed, as many are opened to count."""
MOST_COMMITS = 8
"""Most commits in flight; beyond that the driver waits."""


class Commits:
    """The commits of one driver. Each runs in another process: it reads input, which may take long.

    Args:
        committer: How work is committed.
        metrics: Told of each commit.
        measured: Takes what a commit measured.
    """

    def __init__(
        self, committer: Committer, metrics: RunMetrics, measured: Callable[[Measures], None]
    ) -> None:
        self._committer = committer
        self._metrics = metrics
        self._measured = measured
        self._begun: dict[Any, Work] = {}
        self._task: Callable[[Work], Any] | None = None
        self._counts: list[tuple[str, Committed]] = []
        self.failed: dict[str, tuple[Work, str]] = {}
        """Work that could not be committed, with why, by unit."""

    def start(self, work: Work) -> None:
        """Start a commit, after waiting for others if too many are in flight. Raises as `wait`."""
        if self._task is None:
            self._task = _commit_task(self._committer)
        self._begun[self._task(work)] = work
        self._collect(max(0, len(self._begun) - MOST_COMMITS))

    def wait(self) -> None:
        """Wait for all. Raises OutputError if one cannot write to OUTPUT, and that will last."""
        self._collect(len(self._begun))

    def take_failed(self) -> list[Work]:
        """The work that could not be committed, which is forgotten here."""
        taken = [work for work, _ in self.failed.values()]
        self.failed.clear()
        return taken

    def save_counts(self) -> None:
        """Save the counts of parts that were committed since the last call."""
        save_counts(self._committer.journal.output, self._counts)
        self._counts.clear()

    def _collect(self, wanted: int) -> None:
        """Take the commits that are finished, after waiting until at least `wanted` are."""
        import ray

        if not self._begun:
            return
        with step("commit_wait" if wanted else "receipts"):
            done, _ = ray.wait(
                [*self._begun], num_returns=max(wanted, 1), timeout=None if wanted else 0
            )
        for reply in done:
            self._take(self._begun.pop(reply), reply)
        if len(self._counts) >= COUNTED_PARTS:
            self.save_counts()

    def _take(self, work: Work, reply: Any) -> None:
        import ray
        from ray.exceptions import RayError

        try:
            committed, measures = ray.get(reply)
            self._measured(measures)
        except RayError as error:
            committed = Fault(ends_run=False, message=one_line(error))
        if not isinstance(committed, Fault):
            self._counts.append((work.unit.part, committed))
            self._metrics.happened(UNITS)
            return
        self._metrics.happened(COMMIT_FAULTS)
        if committed.ends_run:
            raise OutputError(committed.message)
        self.failed[work.unit.id] = (work, committed.message)


def _commit_task(committer: Committer) -> Callable[[Work], Any]:
    """Starts commits in other processes. Ray gets the function and the committer once."""
    import ray

    # It claims no CPU: the stages hold all of them, and would have to end first.
    task, where = ray.remote(num_cpus=0)(measured_commit), ray.put(committer)
    return partial(task.remote, where)


def measured_commit(committer: Committer, work: Work) -> tuple[Committed | Fault, Measures]:
    """Commit, in another process, and measure that."""
    measured = Stretch("commit")
    return commit_or_fault(committer, work), measured.finished(work.rows)


def commit_or_fault(committer: Committer, work: Work) -> Committed | Fault:
    """Commit, in another process; or say why that is not possible."""
    try:
        with naming_output(committer.journal.output):
            return committer.commit(work)
    except RunError as error:
        return Fault(ends_run=isinstance(error, OutputError), message=str(error))
    except Exception as error:  # of any store's client
        return Fault(ends_run=False, message=one_line(error))
