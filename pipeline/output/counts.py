"""Which units are committed, and what is in all parts together.

A listing of names says which units are committed; only a part whose name another unit took over has
to be looked into for that. What parts hold is kept from run to run in tables of counts, so each
part is opened only once for it. A count is that of one version of a part, whose stamp it carries: a
listing has the stamps at no cost, and counts of versions that were replaced do not apply any more.
"""

from __future__ import annotations

import itertools
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

from pipeline.output.damage import undamaged
from pipeline.output.parts import list_parts, part_index, read_committed
from pipeline.storage.atomic import overwrite
from pipeline.storage.location import INTERNAL, Location

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipeline.output.parts import Committed
    from pipeline.output.plan import Plan

LISTED_AT_ONCE = 10_000
READERS = 32
"""Parts opened at once."""
LISTED = pa.schema([pa.field("part", pa.string()), pa.field("stamp", pa.string())])
COUNTS = pa.schema(
    [
        *LISTED,
        pa.field("unit", pa.string()),
        pa.field("rows", pa.int64()),
        pa.field("duplicates", pa.int64()),
        pa.field("outcomes", pa.string()),
    ]
)
"""What is in one version of a part; `outcomes` is JSON."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What is in the parts of an OUTPUT.

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
    """[units] bool: which units have their rows in their part; obsolete ones never.

    Raises:
        OSError: OUTPUT cannot be read.
    """
    listed = _listed(plan)
    heads = plan.heads[_indices(listed)]
    is_there = np.zeros(len(plan), dtype=bool)
    is_shared = heads != _indices(listed)
    is_there[heads[~is_shared]] = True
    shared = listed.filter(pa.array(is_shared))
    if shared.num_rows:
        counted, opened = _counted(plan.output, shared)
        is_there[_heads_of_own(plan, pa.concat_tables([counted, opened]))] = True
    is_there[~plan.is_live] = False
    return is_there


def save_counts(output: Location, commits: Iterable[tuple[str, Committed]]) -> None:
    """Keep what is in some parts, so that they need not be opened for it.

    Args:
        output: OUTPUT.
        commits: Names of parts, and what is in them.

    Raises:
        OSError: The store cannot be written to.
    """
    _save(output, _table(commits))


def totals(plan: Plan, *, saves: bool = False) -> Totals:
    """Count the parts of all units that are committed; parts without a saved count are opened.

    Args:
        plan: The plan.
        saves: Whether the counts of parts that were opened are kept; otherwise nothing is written.

    Raises:
        OSError: The store cannot be read or written.
    """
    return _sum(committed_counts(plan, saves=saves))


def count_committed(plan: Plan) -> tuple[np.ndarray, Totals]:
    """Which units are committed, and what is in their parts, both from one listing.

    Asked for one after the other, they differ by what a run commits in between.

    Returns:
        As `committed_units` and `totals` do.

    Raises:
        OSError: OUTPUT cannot be read.
    """
    counts = committed_counts(plan)
    is_there = np.zeros(len(plan), dtype=bool)
    is_there[plan.heads[_indices(counts)]] = True
    return is_there, _sum(counts)


def committed_counts(plan: Plan, *, saves: bool = False) -> pa.Table:
    """What is in each part of the units that are committed, as a table of `COUNTS`, unsorted.

    Args:
        plan: The plan.
        saves: See `totals`.

    Raises:
        OSError: The store cannot be read or written.
    """
    counted, opened = _counted(plan.output, _listed(plan))
    if saves:
        _save(plan.output, opened)
    counts = pa.concat_tables([counted, opened])
    heads = plan.heads[_indices(counts)]
    is_own = plan.is_live[heads] & (heads == _indices(counts))
    shared = counts.filter(pa.array(heads != _indices(counts)))
    is_own[np.isin(heads, _heads_of_own(plan, shared))] = True
    return counts.filter(pa.array(is_own))


def _listed(plan: Plan) -> pa.Table:
    """The parts of the plan that exist, as a table of `LISTED`."""
    found = list_parts(plan.output, len(plan))
    infos = (info for info in found if part_index(info.path) < len(plan))
    tables = [LISTED.empty_table()]
    while some := [*itertools.islice(infos, LISTED_AT_ONCE)]:
        columns = [[info.path for info in some], [info.stamp for info in some]]
        tables.append(pa.table(columns, schema=LISTED))
    return pa.concat_tables(tables)


def _indices(parts: pa.Table) -> np.ndarray:
    """[parts] int64: the indices in the parts' names."""
    return np.array([part_index(name) for name in parts["part"].to_pylist()], dtype=np.int64)


def _heads_of_own(plan: Plan, shared: pa.Table) -> np.ndarray:
    """[n] int64: live units that took over a part, and whose rows it holds by now."""
    heads = plan.heads[_indices(shared)]
    pairs = zip(heads.tolist(), shared["unit"].to_pylist(), strict=True)
    own = [head for head, unit in pairs if plan.is_live[head] and plan.unit(head).id == unit]
    return np.array(own, dtype=np.int64)


def _counted(output: Location, listed: pa.Table) -> tuple[pa.Table, pa.Table]:
    """What is in these parts: those with a saved count, and those that were opened for it."""
    saved = _saved(output)
    keys, known = _versions(listed), _versions(saved)
    counted = _one_per_part(saved.filter(pc.is_in(known, value_set=keys)))
    missing = listed["part"].filter(pc.invert(pc.is_in(keys, value_set=known))).to_pylist()
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda name: read_committed(output / name), missing)
        pairs = zip(missing, found, strict=True)
        return counted, _table((name, what) for name, what in pairs if what is not None)


def _versions(parts: pa.Table) -> pa.ChunkedArray:
    """What tells versions of parts apart."""
    return pc.binary_join_element_wise(parts["part"], parts["stamp"], "\0")


def _one_per_part(counts: pa.Table) -> pa.Table:
    """Of each part the first count: two drivers may have counted it."""
    rest = [name for name in COUNTS.names if name != "part"]
    grouped = counts.group_by("part", use_threads=False).aggregate([(n, "first") for n in rest])
    return grouped.rename_columns(
        [name.removesuffix("_first") for name in grouped.column_names]
    ).select(COUNTS.names)


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
    """All saved counts, also those of versions that are gone."""
    folder = _folder(output)
    tables = (_read(folder / name) for name in folder.names())
    return pa.concat_tables([COUNTS.empty_table(), *(t for t in tables if t is not None)])


def _read(file: Location) -> pa.Table | None:
    """A table of counts; None if it is damaged, gone, or of a version that kept no stamps."""
    try:
        table = undamaged(file.read())
    except FileNotFoundError:
        return None
    return None if table is None or table.schema.names != COUNTS.names else table


def _save(output: Location, counts: pa.Table) -> None:
    if not counts.num_rows:
        return
    sink = pa.BufferOutputStream()
    pq.write_table(counts, sink, write_page_checksum=True)
    # Not synced: a file damaged by a power loss is ignored, and its parts are counted again.
    where = _folder(output) / f"{uuid.uuid4().hex}.parquet"
    overwrite(where, sink.getvalue().to_pybytes(), sync=False)


def _table(commits: Iterable[tuple[str, Committed]]) -> pa.Table:
    rows = [
        {
            "part": part,
            "stamp": committed.stamp,
            "unit": committed.unit_id,
            "rows": committed.rows,
            "duplicates": committed.duplicates,
            "outcomes": json.dumps(dict(sorted(committed.outcomes.items()))),
        }
        for part, committed in commits
    ]
    return pa.Table.from_pylist(rows, schema=COUNTS)


def _folder(output: Location) -> Location:
    return output / INTERNAL / "counts"
