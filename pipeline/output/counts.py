"""The output files of a run: which are there, and what is in them.

A listing of names says which units are committed; only a part that took over another's name has to
be opened for that. Counts of outcomes are kept from run to run in a table beside the parts, so that
each part is opened once for them.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.storage.atomic import overwrite, remove_folder
from pipeline.storage.location import INTERNAL, Location

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pipeline.output.journal import Committed, Journal
    from pipeline.output.plan import Plan

PREFIX = "part-"
DIGITS = 8
PAGE_DIGITS = 4
"""Names are listed by their first digits, so that a listing holds ten thousand of them at most."""
READERS = 32
COUNTS = pa.schema(
    [
        pa.field("part", pa.string()),
        pa.field("rows", pa.int64()),
        pa.field("duplicates", pa.int64()),
        pa.field("outcomes", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What is in all parts of an OUTPUT.

    Attributes:
        units: Parts.
        rows: Rows in them.
        outcomes: Rows by outcome.
        duplicates: Rows that took the results of an identical one.
    """

    units: int
    rows: int
    outcomes: Mapping[str, int]
    duplicates: int


def committed_units(plan: Plan, journal: Journal) -> np.ndarray:
    """[units] bool: whose part is there."""
    is_there = np.zeros(len(plan), dtype=bool)
    for names in _pages(plan):
        is_there[[_index(name) for name in names if _index(name) < len(plan)]] = True
    for index in np.flatnonzero(plan.replaces >= 0):
        unit = plan.unit(int(index))
        found = journal.committed(unit.part)
        is_there[index] = found is not None and found.unit_id == unit.id
    return is_there


def save_counts(output: Location, commits: Iterable[tuple[str, Committed]]) -> None:
    """Keep what commits counted, so that nobody has to open their parts for it."""
    rows = [_count(part, committed) for part, committed in commits]
    if not rows:
        return
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=COUNTS), sink)
    where = _folder(output) / f"{uuid.uuid4().hex}.parquet"
    overwrite(where, sink.getvalue().to_pybytes(), sync=False)


def forget_counts(output: Location) -> None:
    """Let parts be counted anew: some are about to be replaced."""
    remove_folder(_folder(output))


def totals(plan: Plan, journal: Journal) -> Totals:
    """Count all parts; those that no earlier count knows are opened, and the count kept."""
    names = pa.array([name for page in _pages(plan) for name in page], pa.string())
    counted = _saved(plan.output)
    missing = names.filter(pc.invert(pc.is_in(names, value_set=counted["part"])))
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(journal.committed, missing.to_pylist())
        parts = zip(missing.to_pylist(), found, strict=True)
        opened = [(part, committed) for part, committed in parts if committed is not None]
    save_counts(plan.output, opened)
    rows = [_count(part, committed) for part, committed in opened]
    counts = pa.concat_tables([counted, pa.Table.from_pylist(rows, schema=COUNTS)])
    return _sum(counts.filter(pc.is_in(counts["part"], value_set=names)))


def _sum(counts: pa.Table) -> Totals:
    outcomes: Counter[str] = Counter()
    for item in pc.value_counts(counts["outcomes"]).to_pylist():
        for outcome, rows in json.loads(item["values"]).items():
            outcomes[outcome] += rows * item["counts"]
    return Totals(
        units=counts.num_rows,
        rows=pc.sum(counts["rows"]).as_py() or 0,
        outcomes=dict(outcomes),
        duplicates=pc.sum(counts["duplicates"]).as_py() or 0,
    )


def _saved(output: Location) -> pa.Table:
    """All counts that were kept, one for each part."""
    folder = _folder(output)
    bodies = [(folder / name).read() for name in folder.names()]
    tables = [pq.read_table(pa.BufferReader(body)) for body in bodies]
    table = pa.concat_tables([COUNTS.empty_table(), *tables])
    # Two drivers may have counted the same part.
    return table.group_by(COUNTS.names, use_threads=False).aggregate([])


def _count(part: str, committed: Committed) -> dict[str, object]:
    return {
        "part": part,
        "rows": committed.rows,
        "duplicates": committed.duplicates,
        "outcomes": json.dumps(dict(sorted(committed.outcomes.items()))),
    }


def _folder(output: Location) -> Location:
    return output / INTERNAL / "counts"


def _pages(plan: Plan) -> Iterator[list[str]]:
    """Names of the parts there are, some thousand at a time."""
    if plan.output.is_local:
        yield plan.output.names(PREFIX)
        return
    per_page = 10 ** (DIGITS - PAGE_DIGITS)
    for page in range(-(-len(plan) // per_page)):
        yield plan.output.names(f"{PREFIX}{page:0{PAGE_DIGITS}d}")


def _index(name: str) -> int:
    return int(name[len(PREFIX) : len(PREFIX) + DIGITS])
