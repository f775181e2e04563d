"""Read: a unit to its rows, with the columns the task asked for.

Nothing is decoded here and nothing else of the input is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.errors import RunError, one_line
from pipeline.stages.blocks import Item, pack
from pipeline.units import Unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.sources import Source


def read_units(units: pa.Table, source: Source, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield blocks of rows; a payload is the row as a dict of Python values.

    Args:
        units: A table with one column `unit` of units as JSON.
        source: The input.
        columns: What the task reads.

    Raises:
        RunError: A file that was readable when the run was planned no longer is.
    """
    for text in units["unit"].to_pylist():
        unit = Unit.from_json(text)
        try:
            yield from _read_unit(unit, source, columns)
        except (OSError, pa.ArrowException) as error:
            raise RunError(f"{unit.name} cannot be read: {one_line(error)}") from error


def _read_unit(unit: Unit, source: Source, columns: Sequence[str]) -> Iterator[pa.Table]:
    position = 0
    for table in source.read(unit, columns):
        rows = table.to_pylist()
        yield pack([Item(unit.id, position + i, row) for i, row in enumerate(rows)])
        position += len(rows)
