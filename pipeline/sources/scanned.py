"""What JSON lines and tar shards share: rows are found by reading the file from its start once.

Decides how such files are cut: slices of `unit_rows` rows, each with the byte at which its first
row begins, so that a unit is read without what stands before it.
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
"""Bytes of one request to an object store: files are read in order."""
BUFFER = 2**20


def open_from(where: Location, offset: int = 0) -> io.BufferedReader:
    """A file from this byte on. Raises OSError."""
    raw = with_backoff(lambda: where.fs.open(where.path, "rb", block_size=BLOCK))
    # fsspec's own files read a line, or a few bytes, slowly.
    file = io.BufferedReader(raw, BUFFER)
    if offset:
        file.seek(offset)
    return file


def cut_by_offsets(path: str, offsets: Iterable[int], unit_rows: int) -> list[Cut]:
    """Cut a file.

    Args:
        path: Its name in the units.
        offsets: Where each of its rows begins.
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
