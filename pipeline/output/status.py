"""How far a run is and which rows failed, read from OUTPUT alone: no run need be alive."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contract.errors import UserError
from pipeline.contract.record import Outcome
from pipeline.output.counts import committed_units, count_committed
from pipeline.output.journal import Journal
from pipeline.output.parts import read_committed, read_part
from pipeline.output.plan import open_plan
from pipeline.output.profile_files import last_profile
from pipeline.output.results import results_schema
from pipeline.output.run_record import (
    prefix_of,
    read_record,
    skipped_of,
    slice_of,
    why_no_record,
)
from pipeline.sources.columns import holds_binary, image_paths, is_image_struct
from pipeline.sources.fit import fit
from pipeline.sources.units import Unit, Work
from pipeline.storage.access import check_access
from pipeline.storage.location import Location, locate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from pipeline.output.plan import Plan
    from pipeline.output.run_record import Record
    from pipeline.profiling.profile import Profile
    from pipeline.sources import Skipped
    from pipeline.storage.location import StorageOptions


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a run stands.

    Attributes:
        output: OUTPUT.
        task: The task's name.
        units: Units of the plan.
        units_done: Units that have a part.
        rows: Rows of the plan.
        rows_done: Rows in parts.
        rows_journalled: Rows that are finished, of units that are not.
        outcomes: Rows in parts, by outcome.
        duplicates: Rows in parts that took the results of an identical one.
        skipped: The files of INPUT that are not read, by reason.
        slice: Which rows of INPUT it takes: the settings that say so; empty where it takes all.
        started: When the first run on this OUTPUT started, ISO 8601.
        finished: When the last run or retry finished; None if none did.
        last_rows: Rows that this last one computed; None if an earlier version did not record it.
        last_seconds: How long it took; None likewise.
        profile: Where the time of the last one went, as far as it is; None if nothing is known.
    """

    output: str
    task: str
    units: int
    units_done: int
    rows: int
    rows_done: int
    rows_journalled: int
    outcomes: Mapping[str, int]
    duplicates: int
    skipped: tuple[Skipped, ...]
    started: str
    finished: str | None
    last_rows: int | None = None
    last_seconds: float | None = None
    profile: Profile | None = None
    slice: Mapping[str, object] = field(default_factory=dict)


def status(output: str, options: StorageOptions | None = None) -> Status:
    """Read where a run stands.

    Raises:
        UserError: OUTPUT is not that of a run.
        OSError: It cannot be read.
    """
    where, record, plan = open_output(output, options)
    # Before the parts: a commit of a run that goes on takes rows from here to there.
    begun = Journal(plan.output, pa.schema([])).begun()
    is_there, counted = count_committed(plan)
    return Status(
        output=str(where),
        task=record["task"],
        units=int(plan.is_live.sum()),
        units_done=int((is_there | (plan.is_live & (plan.rows == 0))).sum()),
        rows=plan.total_rows,
        rows_done=counted.rows,
        rows_journalled=_journalled_rows(plan, is_there, begun),
        outcomes=counted.outcomes,
        duplicates=counted.duplicates,
        skipped=skipped_of(record),
        started=record["started"],
        finished=record.get("finished"),
        last_rows=record.get("new_rows"),
        last_seconds=record.get("seconds"),
        profile=last_profile(where, record),
        slice=slice_of(record),
    )


def open_output(
    output: str, options: StorageOptions | None = None
) -> tuple[Location, Record, Plan]:
    """Where an OUTPUT is, its run's record and its plan.

    Raises:
        UserError: It is not that of a run.
        OSError: It cannot be read.
    """
    where = locate(output, options)
    check_access(where, "OUTPUT")
    record, plan = read_record(where), open_plan(where)
    if record is None or plan is None:
        raise UserError(f"{where} is not the OUTPUT of a run: {why_no_record(where)}")
    return where, record, plan


def failed_rows(
    output: str, outcomes: Collection[str] = (), options: StorageOptions | None = None
) -> Iterator[pa.Table]:
    """Read the rows without results, or those with some outcomes.

    Args:
        output: OUTPUT.
        outcomes: Which outcomes; all that have no results if empty.
        options: Arguments of fsspec's filesystems, by protocol.

    Yields:
        The rows of one part with all columns but those that hold bytes, of images in structs their
        path, in input order; all tables have the same columns.

    Raises:
        UserError: OUTPUT is not that of a run.
        OSError: It cannot be read.
    """
    _, record, plan = open_output(output, options)
    wanted = set(outcomes) or {str(outcome) for outcome in Outcome if not outcome.has_results}
    values = pa.array(sorted(wanted), pa.string())
    column, schema = f"{prefix_of(record)}outcome", results_schema(plan, record)
    if schema is not None:
        told = [field for field in schema if _is_told(field)]
        schema = _with_paths(pa.schema(told).empty_table()).schema
    for unit in _units_with(plan, wanted):
        table = read_part(plan.output / unit.part, _is_told)
        rows = _with_paths(table.filter(pc.is_in(table[column], value_set=values)))
        yield rows if schema is None else fit(rows, schema)


def added_prefix(output: str, options: StorageOptions | None = None) -> str:
    """What the names of the columns that a run added begin with; mostly nothing.

    Raises:
        UserError: OUTPUT is not that of a run.
        OSError: It cannot be read.
    """
    _, record, _ = open_output(output, options)
    return prefix_of(record)


def failed_work(plan: Plan, outcomes: Collection[str], prefix: str = "") -> Iterator[Work]:
    """The rows in parts that have one of these outcomes, in input order.

    Args:
        plan: The plan.
        outcomes: Which outcomes.
        prefix: What the names of the columns that the run added begin with.

    Raises:
        OSError: OUTPUT cannot be read.
    """
    column = f"{prefix}outcome"
    values = pa.array(sorted(outcomes), pa.string())
    for unit in _units_with(plan, outcomes):
        table = read_part(plan.output / unit.part, lambda field: field.name == column)
        positions = pc.indices_nonzero(pc.is_in(table[column], value_set=values)).to_pylist()
        if positions:
            yield Work(unit, tuple(positions))


def _journalled_rows(plan: Plan, is_there: np.ndarray, begun: Mapping[str, Collection[int]]) -> int:
    """Finished rows of units that are not committed; journals of other units are left-overs."""
    if not begun:
        return 0
    pending = plan.ids().take(pa.array(plan.pending(is_there)))
    return sum(len(begun.get(unit_id, ())) for unit_id in set(pending.to_pylist()))


def _units_with(plan: Plan, outcomes: Collection[str]) -> Iterator[Unit]:
    """Committed units in whose parts there are such outcomes."""
    for index in np.flatnonzero(committed_units(plan)):
        unit = plan.unit(int(index))
        found = read_committed(plan.output / unit.part)
        if found is not None and found.outcomes.keys() & set(outcomes):
            yield unit


def _is_told(field: pa.Field) -> bool:
    return is_image_struct(field.type) or not holds_binary(field.type)


def _with_paths(rows: pa.Table) -> pa.Table:
    """The rows with the paths of images in place of their structs."""
    for place, column in enumerate(rows.schema):
        if is_image_struct(column.type):
            rows = rows.set_column(place, column.name, image_paths(rows[column.name]))
    return rows
