"""Which units are committed, and what is in all parts together.

A listing of names says which units are committed; only a part that took over another unit's name
has to be opened for that. What parts hold is kept from run to run in tables of counts, so each part
is opened only once for it.
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

from pipeline.output.parts import part_index, part_names, read_committed
from pipeline.storage.atomic import overwrite, remove_folder
from pipeline.storage.location import INTERNAL, Location

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.output.parts import Committed
    from pipeline.output.plan import Plan

READERS = 32
"""Parts opened at once."""
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


def committed_units(plan: Plan) -> np.ndarray:
    """[units] bool: which units of the plan have a part. Raises OSError."""
    is_there = np.zeros(len(plan), dtype=bool)
    for names in part_names(plan.output, len(plan)):
        indices = map(part_index, names)
        is_there[[index for index in indices if index < len(plan)]] = True
    for index in np.flatnonzero(plan.replaces >= 0):
        unit = plan.unit(int(index))
        found = read_committed(plan.output / unit.part)
        is_there[index] = found is not None and found.unit_id == unit.id
    return is_there


def save_counts(output: Location, commits: Iterable[tuple[str, Committed]]) -> None:
    """Keep what is in some parts, so that they need not be opened for it.

    Args:
        output: OUTPUT.
        commits: Names of parts, and what is in them.

    Raises:
        OSError: The store cannot be written to.
    """
    rows = [_count(part, committed) for part, committed in commits]
    if not rows:
        return
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=COUNTS), sink)
    where = _folder(output) / f"{uuid.uuid4().hex}.parquet"
    overwrite(where, sink.getvalue().to_pybytes(), sync=False)


def forget_counts(output: Location) -> None:
    """Have all parts counted again, because some are replaced. Raises OSError."""
    remove_folder(_folder(output))


def totals(plan: Plan) -> Totals:
    """Count all parts; those without a saved count are opened, and their count saved.

    Raises:
        OSError: The store cannot be read or written.
    """
    pages = part_names(plan.output, len(plan))
    names = pa.array([name for page in pages for name in page], pa.string())
    counted = _saved(plan.output)
    missing = names.filter(pc.invert(pc.is_in(names, value_set=counted["part"]))).to_pylist()
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda name: read_committed(plan.output / name), missing)
        parts = zip(missing, found, strict=True)
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
    """All saved counts, one for each part."""
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
