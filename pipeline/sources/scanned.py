"""Decides how files without an index of their rows are cut: JSON lines and tar shards.

Such a file is read once from its start. A unit is a slice of `unit_rows` rows with the byte offset
of its first row, so that reading a unit need not read what comes before it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from pipeline.sources.units import Cut
from pipeline.storage.backoff import with_backoff

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.storage.location import Location

BLOCK = 8 * 2**20
"""Bytes of one request to an object store, as files are read sequentially."""
BUFFER = 2**20


def open_from(where: Location, offset: int = 0) -> io.BufferedReader:
    """Open a file for reading at this byte. Raises OSError."""
    raw = with_backoff(lambda: where.fs.open(where.path, "rb", block_size=BLOCK))
    # Lines and small reads of fsspec's own files are slow.
    file = io.BufferedReader(raw, BUFFER)
    if offset:
        file.seek(offset)
    return file


def cut_by_offsets(path: str, offsets: Iterable[int], unit_rows: int) -> list[Cut]:
    """Cut a file into units.

    Args:
        path: Its path relative to the input's root.
        offsets: The byte at which each row begins.
        unit_rows: Rows of every unit but the last.
    """
    begins: list[int] = []
    rows = 0
    for offset in offsets:
        if rows % unit_rows == 0:
            begins.append(offset)
        rows += 1
    return [
        Cut(
            files=(path,),
            start=number * unit_rows,
            stop=min(rows, (number + 1) * unit_rows),
            offset=offset,
        )
        for number, offset in enumerate(begins)
    ]
