"""Decides what a driver computes and how it is committed: units without a part, or failed rows."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.contract.errors import UserError, shortened
from pipeline.contract.record import Outcome, merged_column
from pipeline.output.cleanup import clean_up_retry, clean_up_run
from pipeline.output.commit import NewParts, PatchedParts
from pipeline.output.counts import committed_units, totals
from pipeline.output.extension import extended, without_gone
from pipeline.output.formats import FORMATS
from pipeline.output.journal import OF_RETRIES, Journal
from pipeline.output.order import shuffled
from pipeline.output.parts import list_parts
from pipeline.output.plan import dropped_parts
from pipeline.output.run_record import read_record
from pipeline.output.sidecars import WithSidecars
from pipeline.output.status import failed_work
from pipeline.sources import ROW_A_FILE
from pipeline.sources.units import Work

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    import numpy as np

    from pipeline.contract.config import RunConfig
    from pipeline.execution.preparation import CheckedRun
    from pipeline.output.commit import Committer
    from pipeline.output.heartbeat import Turn
    from pipeline.output.plan import Plan
    from pipeline.sources import Source
    from pipeline.sources.units import Unit

RUN, RETRY = "run", "retry"
"""Kinds of work in an OUTPUT."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
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


def is_finished(checked: CheckedRun) -> bool:
    """Whether all is committed, cleaned up and recorded. Raises OSError."""
    plan = checked.plan
    assert plan is not None, "a run without a plan has not begun"
    return (
        not len(plan.pending(committed_units(plan)))
        and not lacks_sidecars(checked, plan)
        and not _has_dropped_parts(plan)
        and _is_recorded(plan)
    )


def _has_dropped_parts(plan: Plan) -> bool:
    """Whether parts are there of rows that are not planned any more: a driver died at its end."""
    dropped = {*dropped_parts(plan)}
    parts = list_parts(plan.output, len(plan)) if dropped else ()
    return any(part.path in dropped for part in parts)


def _is_recorded(plan: Plan) -> bool:
    """Whether the record tells of the end of a run with all of these rows."""
    record = read_record(plan.output) or {}
    return "finished" in record and record.get("rows") == plan.total_rows


def lacks_sidecars(checked: CheckedRun, plan: Plan) -> bool:
    """Whether the run writes sidecars and some part is still without its own."""
    return checked.sidecars is not None and bool(checked.sidecars.lacking(plan))


def _with_sidecars(checked: CheckedRun, committer: Committer) -> Committer:
    if checked.sidecars is None:
        return committer
    return WithSidecars(committer=committer, sidecars=checked.sidecars)


@contextlib.contextmanager
def all_units(checked: CheckedRun, mine: Turn) -> Iterator[Assignment]:
    """All units of the input that have no part; cleans up once they have."""
    plan, is_committed, left_out = _whole_plan(checked, mine)
    outcomes = totals(plan, saves=True).outcomes if is_committed.any() else {}
    source = checked.source
    if source.schema != plan.schema:  # another driver was faster, over a larger input
        source = source.with_schema(plan.schema)
    yield Assignment(
        work=map(Work, _in_order(plan, plan.pending(is_committed), checked.config, mine)),
        rows=plan.total_rows,
        rows_done=int(plan.rows[is_committed].sum()),
        rows_failed=sum(n for name, n in outcomes.items() if not Outcome(name).has_results),
        source=source,
        committer=_with_sidecars(checked, _new_parts(checked, source)),
        left_out=left_out,
    )
    clean_up_run(plan, mine.epoch)
    if checked.sidecars is not None:
        checked.sidecars.write_lacking(plan)


def _whole_plan(checked: CheckedRun, mine: Turn) -> tuple[Plan, np.ndarray, Sequence[str]]:
    """The plan with what is new in the input and without what is gone.

    Returns:
        It; [units] bool, which are committed; and the paths that were left out.
    """
    changes = checked.changes
    plan = extended(
        checked.plan,
        checked.output,
        checked.listing,
        checked.source,
        changes,
        checked.selection,
        suffix=FORMATS[checked.config.output_format].suffix,
    )
    is_committed = committed_units(plan)
    if changes is None or mine.beside:  # another run may have a larger input
        return plan, is_committed, ()
    rest, left_out = without_gone(plan, is_committed, changes.gone)
    return rest, is_committed if rest is plan else committed_units(rest), left_out


def _new_parts(checked: CheckedRun, source: Source) -> NewParts:
    names, prefix = checked.task.result_schema.names, checked.config.prefix or ""
    return NewParts(
        journal=Journal(checked.output, checked.task.result_schema),
        source=source,
        run=checked.record,
        prefix=prefix,
        merged=merged_column(names, checked.config.missing, prefix),
    )


def _in_order(plan: Plan, indices: np.ndarray, config: RunConfig, mine: Turn) -> Iterator[Unit]:
    """Units in the order in which they are worked on: that of the input, or a random one.

    Beside another run it is random too: what one has finished, the other leaves out.
    """
    if config.shuffle:
        return shuffled(plan, indices, config.sample_seed)
    if mine.beside:
        return shuffled(plan, indices, mine.epoch.number)
    return (plan.unit(int(index)) for index in indices)


@contextlib.contextmanager
def failed_rows(checked: CheckedRun, outcomes: Collection[str], mine: Turn) -> Iterator[Assignment]:
    """Rows of existing parts; cleans up once they are replaced.

    They are looked for in the driver's turn: a retry that ended just before has fixed some.

    Raises:
        UserError: A file with such rows has changed.
        OSError: OUTPUT cannot be read or written.
    """
    plan = checked.plan
    assert plan is not None, "a retry has a plan"
    work = [*failed_work(plan, outcomes, checked.config.prefix or "")]
    _check_unchanged(checked, work)
    journal = Journal(checked.output, checked.task.result_schema, OF_RETRIES)
    if not any(other.work == RETRY for other in mine.beside):  # whose failures these may be
        journal.forget_failures(outcomes)
    yield Assignment(
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
    if checked.sidecars is not None:
        checked.sidecars.write_lacking(plan)


def _check_unchanged(checked: CheckedRun, work: Iterable[Work]) -> None:
    """Refuse rows of files that are not those their parts were computed from.

    By now a row may have another place in such a file. Where a file is a row, its place is its
    path: an image that was mended is what a retry is for.
    """
    if not checked.changes or checked.listing.kind in ROW_A_FILE:
        return
    files = {file for piece in work for file in piece.unit.files}
    changed = [file.path for file in checked.changes.changed if file.path in files]
    if changed:
        raise UserError(
            f"INPUT {shortened(changed)}: changed since its rows were computed, so the failed ones "
            "may be in other places; run the job again, which computes changed files anew"
        )
