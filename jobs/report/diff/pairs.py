"""Decides which rows of two OUTPUTs belong together, and reads them a bounded number at a time.

By default those with the same `row_key`. A key is a unit's id and a position in it, so whole parts
belong together: one of each OUTPUT is in memory. Rows of units that only one of them has belong to
none.

By a column: the rows of both are divided by a hash of its value into files on this machine's disk,
of which one pair after the other is read. Rows whose value is null, or that share it with others of
the same OUTPUT, belong to none.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import UserError
from pipeline.contract.suggest import suggestion
from pipeline.output.counts import committed_counts
from pipeline.output.parts import part_index, read_part
from pipeline.sources.fit import fit
from pipeline.sources.readable import readable_values
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.output.plan import Plan
    from pipeline.output.run_record import Record
    from pipeline.storage.location import Location

BUCKET_ROWS = 100_000
MOST_BUCKETS = 200
"""Files that are open at once."""
AHEAD = 2
UNIT, POSITION = "__unit__", "__position__"
"""Columns that are added: where in its OUTPUT a row is."""
KEY = "__key__of_pair"
OF_INPUT = "__input__"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two OUTPUTs.

    Attributes:
        output: Where it is.
        record: Its run's record.
        plan: Its plan.
        counts: What is in its parts, see `committed_counts`.
        columns: Those that are read, by the name that both sides have in common, see `reads`.
    """

    output: Location
    record: Record
    plan: Plan
    counts: pa.Table
    columns: Mapping[str, str]

    @property
    def rows(self) -> int:
        """Rows in it."""
        return pc.sum(self.counts["rows"]).as_py() or 0

    def read(self, part: str) -> pa.Table:
        """The rows of a part, with the common names and where they are. Raises OSError."""
        names = {own: common for common, own in self.columns.items()}
        table = read_part(self.output / part, lambda field: field.name in names)
        table = table.rename_columns([names[name] for name in table.column_names])
        planned = {field.name: field.type for field in self.plan.schema}
        schema = pa.schema(
            # A part from before a file brought the column has none.
            (common, planned.get(own) or _type_in(table, common))
            for common, own in self.columns.items()
        )
        unit = int(self.plan.heads[part_index(part)])
        table = fit(table, schema)
        table = table.append_column(UNIT, pa.repeat(unit, table.num_rows))
        return table.append_column(POSITION, pa.array(range(table.num_rows), pa.int64()))


def _type_in(table: pa.Table, name: str) -> pa.DataType:
    return table.schema.field(name).type if name in table.column_names else pa.null()


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Rows that belong together.

    Attributes:
        one: Rows of the first OUTPUT.
        other: Those of the second, each in the place of its partner.
        alone: Rows without a partner, of each.
        unclear: Rows whose partner cannot be told, of each.
    """

    one: pa.Table
    other: pa.Table
    alone: tuple[int, int] = (0, 0)
    unclear: tuple[int, int] = (0, 0)


def open_counts(plan: Plan) -> pa.Table:
    """What is in the parts of an OUTPUT, in input order."""
    return committed_counts(plan).sort_by("part")


def by_unit(one: Side, other: Side) -> Iterator[Pairs]:
    """Pairs of rows with the same `row_key`, those of one unit after the other."""
    theirs = dict(_parts_by_unit(other))
    common = [(part, theirs[unit]) for unit, part in _parts_by_unit(one) if unit in theirs]
    rows = _rows_of(one, {part for part, _ in common}), _rows_of(other, {p for _, p in common})
    read = in_order(lambda parts: (one.read(parts[0]), other.read(parts[1])), common, AHEAD)
    for mine, their in read:
        shared = min(mine.num_rows, their.num_rows)  # they are equal, unless one was replaced now
        yield Pairs(one=mine.slice(0, shared), other=their.slice(0, shared))
    empty = pa.table({})
    yield Pairs(one=empty, other=empty, alone=(one.rows - rows[0], other.rows - rows[1]))


def by_column(one: Side, other: Side, column: str) -> Iterator[Pairs]:
    """Pairs of rows with the same value in a column, which both sides read.

    Args:
        one: An OUTPUT.
        other: The other.
        column: A column of INPUT, or else one that both runs added, without their prefix.

    Raises:
        UserError: An OUTPUT has no such column.
    """
    sides = [(side, _name_of(column, side)) for side in (one, other)]
    buckets = min(MOST_BUCKETS, max(1, math.ceil(max(one.rows, other.rows) / BUCKET_ROWS)))
    with tempfile.TemporaryDirectory(prefix="gemma3-batch-diff-") as folder:
        for name, (side, key) in zip(("one", "other"), sides, strict=True):
            _divide(side, key, os.path.join(folder, name), buckets)
        for bucket in range(buckets):
            paths = (os.path.join(folder, f"{name}-{bucket}") for name in ("one", "other"))
            yield _joined(*(_read_bucket(path) for path in paths))


def _name_of(column: str, side: Side) -> str:
    """The common name of a column by which rows are paired. Raises UserError."""
    found = next((name for name in (of_input(column), column) if name in side.columns), None)
    if found is None:
        nearest = suggestion(column, side.columns.values()).strip()
        raise UserError(
            f"on: {side.output} has no column '{column}'{f'; {nearest}' if nearest else ''}"
        )
    return found


def _parts_by_unit(side: Side) -> Iterator[tuple[str, str]]:
    columns = (side.counts[name].to_pylist() for name in ("unit", "part"))
    return zip(*columns, strict=True)


def _rows_of(side: Side, parts: set[str]) -> int:
    counted = zip(side.counts["part"].to_pylist(), side.counts["rows"].to_pylist(), strict=True)
    return sum(rows for part, rows in counted if part in parts)


def _divide(side: Side, column: str, path: str, buckets: int) -> None:
    """Write the rows of an OUTPUT to files by the hash of a column's value."""
    writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}
    schema: pa.Schema | None = None
    with contextlib.ExitStack() as stack:
        for table in in_order(side.read, side.counts["part"].to_pylist(), AHEAD):
            keys = _as_text(table[column])
            table = table.append_column(KEY, keys)  # noqa: PLW2901
            schema = schema or table.schema
            places = _hashes(keys) % buckets
            for bucket in np.unique(places).tolist():
                if bucket not in writers:
                    writer = pa.ipc.new_stream(f"{path}-{bucket}", schema)
                    writers[bucket] = stack.enter_context(writer)
                rows = table.filter(pa.array(places == bucket))
                writers[bucket].write_table(rows.cast(schema))


def _as_text(column: pa.ChunkedArray) -> pa.Array:
    """Equal texts for equal values, whatever numbers' types are."""
    values = (_as_integer(value) for value in readable_values(column))
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _as_integer(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _hashes(keys: pa.Array) -> np.ndarray:
    """[rows] int64: the same for equal texts; 0 for null."""
    bodies = (b"" if key is None else key.encode() for key in keys.to_pylist())
    return np.fromiter((zlib.crc32(body) for body in bodies), np.int64, len(keys))


def _read_bucket(path: str) -> pa.Table | None:
    if not os.path.exists(path):
        return None
    with pa.ipc.open_stream(path) as reader:
        return reader.read_all()


def _joined(one: pa.Table | None, other: pa.Table | None) -> Pairs:
    empty = pa.table({})
    if one is None or other is None:
        alone = tuple(0 if table is None else table.num_rows for table in (one, other))
        return Pairs(one=empty, other=empty, alone=(alone[0], alone[1]))
    mine, theirs = _distinct(one), _distinct(other)
    unclear = (one.num_rows - mine.num_rows, other.num_rows - theirs.num_rows)
    places = pc.index_in(mine[KEY], value_set=theirs[KEY])
    is_both = pc.is_valid(places)
    paired = mine.filter(is_both)
    alone = (mine.num_rows - paired.num_rows, theirs.num_rows - paired.num_rows)
    return Pairs(
        one=paired.drop_columns([KEY]),
        other=theirs.take(places.filter(is_both)).drop_columns([KEY]),
        alone=alone,
        unclear=unclear,
    )


def _distinct(table: pa.Table) -> pa.Table:
    """The rows whose key no other has, and is not null."""
    counted = table.group_by(KEY).aggregate([(KEY, "count")])
    once = counted.filter(pc.equal(counted[f"{KEY}_count"], 1))[KEY]
    return table.filter(pc.is_in(table[KEY], value_set=once.combine_chunks()))


def of_input(name: str) -> str:
    """The common name of a column of INPUT; under a prefix a result may be called as it is."""
    return f"{OF_INPUT}{name}"


def reads(added: Sequence[str], prefix: str, own: Sequence[str]) -> dict[str, str]:
    """The columns of an OUTPUT that are read, by the name that both sides have in common.

    Args:
        added: Those that the run added.
        prefix: What their names begin with.
        own: Those of INPUT.
    """
    return {name.removeprefix(prefix): name for name in added} | {of_input(n): n for n in own}
