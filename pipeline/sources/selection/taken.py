"""Decides how a unit is read of which not all rows are taken: as a unit that has no others.

Positions in a unit count the rows that are taken, so that whoever gets its rows from here need not
know of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.sources.columns import without_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.sources.source import Source
    from pipeline.sources.units import Cut


def read_taken(source: Source, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the rows of a unit that are taken; see `Source.read`."""
    return _taken(source.read(unit, columns), unit)


def passthrough_taken(source: Source, unit: Cut) -> Iterator[pa.Table]:
    """Yield the rows of a unit that are taken; see `Source.passthrough`."""
    return _taken(source.passthrough(unit), unit)


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
