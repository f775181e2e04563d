"""Decides how files without an index of their rows are cut: JSON lines, CSV and tar shards.

Such a file is read once from its start. A unit is a slice of about `unit_rows` rows with the byte
offset of its first row, so that reading a unit need not read what comes before it.
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


def cut_by_offsets(path: str, pieces: Iterable[tuple[int, int]], unit_rows: int) -> list[Cut]:
    """Cut a file into units.

    Args:
        path: Its path relative to the input's root.
        pieces: The byte at which each piece begins, and the rows in it, which stay together.
        unit_rows: Rows of every unit but the last; with its last piece it may have more.
    """
    begins: list[tuple[int, int]] = []
    rows = 0
    for offset, count in pieces:
        if not begins or rows - begins[-1][0] >= unit_rows:
            begins.append((rows, offset))
        rows += count
    stops = [*(start for start, _ in begins[1:]), rows]
    return [
        Cut(files=(path,), start=start, stop=stop, offset=offset)
        for (start, offset), stop in zip(begins, stops, strict=False)
    ]
