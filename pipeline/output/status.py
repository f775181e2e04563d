"""How far a run is and which rows failed, read from OUTPUT alone: the run need not be alive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contract.errors import UserError
from pipeline.contract.record import Outcome
from pipeline.output.counts import committed_units, totals
from pipeline.output.journal import Journal
from pipeline.output.plan import open_plan
from pipeline.output.run_record import read_record
from pipeline.storage.location import Location, locate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from pipeline.output.plan import Plan
    from pipeline.output.run_record import Record
    from pipeline.storage.location import StorageOptions

HEAVY = (pa.types.is_binary, pa.types.is_large_binary)


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a run stands.

    Attributes:
        output: OUTPUT.
        task: What is run.
        units: Units of the plan.
        units_done: Those with a part.
        rows: Rows of the plan.
        rows_done: Rows in parts.
        rows_journalled: Rows that are finished and wait for the rest of their unit.
        outcomes: Rows in parts, by outcome.
        duplicates: Rows in parts that took the results of an identical one.
        started: When the run was first started, ISO 8601.
        finished: When it last came to its end; None where it never did.
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
    started: str
    finished: str | None


def status(output: str, options: StorageOptions | None = None) -> Status:
    """Read where a run stands. Raises UserError where OUTPUT is not one of ours."""
    where, record, plan = _opened(output, options)
    journal = Journal(where, pa.schema([]), {"id": None})
    is_there = committed_units(plan, journal)
    counted = totals(plan, journal)
    waiting = journal.begun()
    return Status(
        output=str(where),
        task=record["task"],
        units=int(plan.is_live.sum()),
        units_done=int((is_there & plan.is_live).sum()) + int((plan.rows == 0).sum()),
        rows=plan.total_rows,
        rows_done=counted.rows,
        rows_journalled=sum(len(positions) for positions in waiting.values()),
        outcomes=counted.outcomes,
        duplicates=counted.duplicates,
        started=record["started"],
        finished=record.get("finished"),
    )


def failed_rows(
    output: str, outcomes: Collection[str] = (), options: StorageOptions | None = None
) -> Iterator[pa.Table]:
    """The rows without results, or with these outcomes, part by part; no binary columns.

    Raises:
        UserError: OUTPUT is not one of ours.
    """
    where, _, plan = _opened(output, options)
    journal = Journal(where, pa.schema([]), {"id": None})
    wanted = set(outcomes) or {str(o) for o in Outcome if not o.has_results}
    values = pa.array(sorted(wanted), pa.string())
    for index in np.flatnonzero(committed_units(plan, journal) & plan.is_live):
        part = plan.unit(int(index)).part
        found = journal.committed(part)
        if found is None or not wanted & set(found.outcomes):
            continue
        with (where / part).open() as file, pq.ParquetFile(file) as parquet:
            table = parquet.read(columns=_light(parquet.schema_arrow))
        yield table.filter(pc.is_in(table["outcome"], value_set=values))


def _opened(output: str, options: StorageOptions | None) -> tuple[Location, Record, Plan]:
    where = locate(output, options)
    record, plan = read_record(where), open_plan(where)
    if record is None or plan is None:
        raise UserError(f"{where} is not the OUTPUT of a run: it has no record of one")
    return where, record, plan


def _light(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if not any(is_heavy(field.type) for is_heavy in HEAVY)]
