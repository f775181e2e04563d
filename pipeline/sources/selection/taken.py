"""Decides how a unit is read of which not all rows are taken: as a unit that has no others.

Positions in a unit count the rows that are taken, so that whoever gets its rows from here need not
know of the rest. Of a parquet file, row groups without any of them are not read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.sources.columns import without_columns
from pipeline.sources.parquet import ParquetSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.sources.source import Source
    from pipeline.sources.units import Cut

MOST_READ = 16
"""Rows that are read for each one that is taken before it is asked which row groups need not be."""


def read_taken(source: Source, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the rows of a unit that are taken; see `Source.read`."""
    for piece in _pieces(source, unit):
        yield from _taken(source.read(piece, columns), piece)


def passthrough_taken(source: Source, unit: Cut) -> Iterator[pa.Table]:
    """Yield the rows of a unit that are taken; see `Source.passthrough`."""
    for piece in _pieces(source, unit):
        yield from _taken(source.passthrough(piece), piece)


def packed(rows: np.ndarray, count: int) -> bytes:
    """Rows as `Cut.taken`.

    Args:
        rows: [n] int64, rows of a cut, counted from its first.
        count: Rows of the cut.
    """
    is_taken = np.zeros(count, dtype=bool)
    is_taken[rows] = True
    return np.packbits(is_taken).tobytes()


def are_taken(cut: Cut) -> np.ndarray:
    """[rows] bool: which rows of a cut's range are taken."""
    count = cut.stop - cut.start
    if cut.taken is None:
        return np.ones(count, dtype=bool)
    return np.unpackbits(np.frombuffer(cut.taken, np.uint8), count=count).astype(bool)


def _pieces(source: Source, unit: Cut) -> Iterator[Cut]:
    """The unit, or where few of its rows are taken the pieces of it that have some."""
    is_dense = unit.stop - unit.start <= MOST_READ * unit.rows
    if unit.taken is None or is_dense or not isinstance(source, ParquetSource):
        yield unit
        return
    rows = unit.start + np.flatnonzero(are_taken(unit))
    groups = np.searchsorted(source.group_begins(unit.files[0]), rows, side="right")
    for some in np.split(rows, np.flatnonzero(np.diff(groups) > 1) + 1):
        start, stop = int(some[0]), int(some[-1]) + 1
        yield replace(unit, start=start, stop=stop, taken=packed(some - start, stop - start))


def _taken(tables: Iterator[pa.Table], unit: Cut) -> Iterator[pa.Table]:
    return tables if unit.taken is None else _filtered(tables, are_taken(unit))


def _filtered(tables: Iterable[pa.Table], is_taken: np.ndarray) -> Iterator[pa.Table]:
    at = 0
    for table in tables:
        wanted = is_taken[at : at + table.num_rows]
        at += table.num_rows
        if not wanted.any():
            continue
        if table.column_names:
            yield table.filter(pa.array(wanted))
        else:
            yield without_columns(int(wanted.sum()))
