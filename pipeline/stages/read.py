"""Read: from a unit to its rows, with the columns that the task asks for and no others.

Decides which rows are computed: those that are not done, where only missing values are wanted those
that have none, and of identical rows the first; and how many of them travel together. Images are
not decoded here.
"""

from __future__ import annotations

import hashlib
import itertools
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipeline.contract.errors import Fault, RowError, one_line
from pipeline.contract.record import Outcome
from pipeline.profiling.measures import Stretch
from pipeline.sources import FAULT, are_missing, read_taken
from pipeline.sources.source import COPY_ROWS, by_bytes, size_of
from pipeline.sources.units import Work
from pipeline.stages.blocks import Item, pack, seal
from pipeline.storage.backoff import is_transient
from pipeline.storage.refusals import Refusal, refusal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pipeline.sources import Source


def pack_work(work: Work) -> bytes:
    """Work as bytes, for the column of a table; `read_units` unpacks it."""
    return pickle.dumps(work)


def read_units(
    work: pa.Table,
    source: Source,
    columns: Sequence[str],
    dedup: bool,
    block_rows: int,
    missing: str | None = None,
    is_done: Callable[[Work], bool] | None = None,
) -> Iterator[pa.Table]:
    """Read units.

    Args:
        work: A table with one column `work` of packed `Work`.
        source: Where rows are read.
        columns: Columns that the task reads.
        dedup: Whether only the first of identical rows in a unit is computed.
        block_rows: Most rows of a block; one of long rows has fewer. One of rows that are kept,
            which carry nothing, has up to `COPY_ROWS`.
        missing: Rows are kept, not computed, that have a value in this column; None computes all.
        is_done: Tells of a unit that another driver has finished since; it is left out.

    Yields:
        Sealed blocks; the payload of a row is a dict of Python values. For a unit that cannot be
        read, a row with the fault.

    Raises:
        OSError: A unit cannot be read for now; the driver runs its rows again.
    """
    items = itertools.chain.from_iterable(
        _read_unit(pickle.loads(packed), source, columns, dedup, missing, is_done)  # noqa: S301  `pack_work`
        for packed in work["work"].to_pylist()
    )
    measured = Stretch("read")
    for is_kept, some in itertools.groupby(items, lambda item: item.outcome is Outcome.KEPT):
        rows = COPY_ROWS if is_kept else block_rows
        for block in by_bytes(some, lambda item: size_of(item.payload), rows):
            yield seal(pack(block, measured))
            measured = Stretch("read")


def _read_unit(
    work: Work,
    source: Source,
    columns: Sequence[str],
    dedup: bool,
    missing: str | None,
    is_done: Callable[[Work], bool] | None,
) -> Iterator[Item]:
    try:
        if is_done is not None and is_done(work):
            return
        if missing is not None:
            kept, work = _divided(work, source, missing)
            yield from (Item(work.unit.id, position).kept() for position in kept)
            if not work.rows:
                return
        yield from _rows_of(work, source, columns, _Seen() if dedup else None)
    except Exception as error:  # the stores' clients have errors of many kinds
        if is_transient(error):
            raise
        yield Item(work.unit.id, 0).faulty(_fault(work, source, error))


def _divided(work: Work, source: Source, missing: str) -> tuple[list[int], Work]:
    """The positions of rows that have a value in a column, and the work without them."""
    tables = read_taken(source, work.unit, [missing])
    are = np.concatenate([np.zeros(0, bool), *(are_missing(table[missing]) for table in tables)])
    positions = np.array(work.missing, np.int64)
    _check_length(work, len(are))
    kept = positions[~are[positions]]
    return kept.tolist(), Work(work.unit, tuple(positions[are[positions]].tolist()))


def _fault(work: Work, source: Source, error: Exception) -> Fault:
    """Of the unit; of the run where the store accepts no credentials for any unit."""
    refusal = refusal_of(error, is_local=source.root.is_local)
    message = f"{work.unit.name} cannot be read: {one_line(error)}"
    if refusal is not Refusal.CREDENTIALS:
        return Fault(ends_run=False, message=message)
    message = f"{message}; {refusal.fix}, and run the same command again"
    return Fault(ends_run=True, message=message, is_users=True)


def _rows_of(
    work: Work, source: Source, columns: Sequence[str], seen: _Seen | None
) -> Iterator[Item]:
    wanted = None if work.positions is None else frozenset(work.positions)
    position = 0
    for table in read_taken(source, work.unit, columns):
        for at, row in enumerate(_values(table), position):
            if wanted is None or at in wanted:
                yield _item(work.unit.id, at, row, seen)
        position += table.num_rows
    _check_length(work, position)


def _check_length(work: Work, rows: int) -> None:
    """Refuse a file that is shorter than when it was planned. Raises ValueError."""
    if rows < work.unit.rows:
        raise ValueError("it has fewer rows than when it was planned; run again")


def _values(table: pa.Table) -> list[dict[str, Any]]:
    """A table's rows as Python values.

    Parquet files may hold text that is not UTF-8, which Arrow does not check, and times that Python
    has not, such as the end of the year 9999 in a zone; such a row has only the value `FAULT`.
    """
    try:
        return list(table.to_pylist())
    except (ValueError, OverflowError):
        return [_values_or_fault(table.slice(at, 1)) for at in range(table.num_rows)]


def _values_or_fault(row: pa.Table) -> dict[str, Any]:
    values = {}
    for name in row.column_names:
        try:
            values[name] = row[name][0].as_py()
        except UnicodeDecodeError as error:
            return {FAULT: f"the column '{name}' is not UTF-8 (at byte {error.start})"}
        except (ValueError, OverflowError) as error:
            return {FAULT: f"the column '{name}' has no value that can be read: {one_line(error)}"}
    return values


def _item(unit_id: str, position: int, row: dict[str, Any], seen: _Seen | None) -> Item:
    item = Item(unit_id, position)
    fault = row.pop(FAULT, None)
    if fault is not None:
        return item.failed(RowError(Outcome.DECODE_ERROR, "read", fault))
    first = position if seen is None else seen.first(row, position)
    if first != position:
        return Item(unit_id, position, same_as=first)
    return item.carrying(row)


class _Seen:
    """Digests of the rows seen in a unit, 16 bytes each."""

    def __init__(self) -> None:
        self._positions: dict[bytes, int] = {}

    def first(self, row: Mapping[str, object], position: int) -> int:
        """Position of the first row with these values."""
        digest = hashlib.blake2b(digest_size=16)
        for name, value in row.items():
            body = value if isinstance(value, bytes) else pickle.dumps(value)
            digest.update(f"{name}:{type(value).__name__}:{len(body)}:".encode())
            digest.update(body)
        return self._positions.setdefault(digest.digest(), position)
