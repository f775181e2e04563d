"""Decides how a unit is read of which not all rows are taken: as a unit that has no others.

Positions in a unit count the rows that are taken, so that nothing behind the source need know of
the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.sources.columns import without_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.sources.listing import Kind
    from pipeline.sources.source import Source
    from pipeline.sources.units import Cut
    from pipeline.storage.location import FileInfo, Location


@dataclass(frozen=True)
class SelectedRows:
    """A `Source` without the rows that are not taken (`Cut.taken`).

    Attributes:
        source: The source with all rows.
    """

    source: Source

    @property
    def root(self) -> Location:
        """See `Source`."""
        return self.source.root

    @property
    def kind(self) -> Kind:
        """See `Source`."""
        return self.source.kind

    @property
    def schema(self) -> pa.Schema:
        """See `Source`."""
        return self.source.schema

    @property
    def passthrough_schema(self) -> pa.Schema:
        """See `Source`."""
        return self.source.passthrough_schema

    def cut(self, files: Sequence[FileInfo]) -> Iterator[Cut]:
        """Cut files with all their rows; `Selection.cuts` takes from these."""
        return self.source.cut(files)

    def read(self, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the rows that are taken; see `Source`."""
        return _taken(self.source.read(unit, columns), unit)

    def passthrough(self, unit: Cut) -> Iterator[pa.Table]:
        """Yield the rows that are taken; see `Source`."""
        return _taken(self.source.passthrough(unit), unit)


def packed(rows: np.ndarray, count: int) -> bytes:
    """Rows as `Cut.taken`.

    Args:
        rows: [n] int64, rows of a cut, counted from its first.
        count: Rows of the cut.
    """
    is_taken = np.zeros(count, dtype=bool)
    is_taken[rows] = True
    return np.packbits(is_taken).tobytes()


def taken_rows(cut: Cut) -> np.ndarray:
    """[rows] bool: which rows of a cut's range are taken."""
    count = cut.stop - cut.start
    if cut.taken is None:
        return np.ones(count, dtype=bool)
    return np.unpackbits(np.frombuffer(cut.taken, np.uint8), count=count).astype(bool)


def _taken(tables: Iterable[pa.Table], unit: Cut) -> Iterator[pa.Table]:
    if unit.taken is None:
        yield from tables
        return
    is_taken, at = taken_rows(unit), 0
    for table in tables:
        wanted = is_taken[at : at + table.num_rows]
        at += table.num_rows
        if not wanted.any():
            continue
        if table.column_names:
            yield table.filter(pa.array(wanted))
        else:
            yield without_columns(int(wanted.sum()))
