"""Decides what a unit is, what its id is, and how rows are divided into units.

A unit is the part of the input that is committed together, as one output file. In which pieces a
format's files are best read is the source's to say; which units there are is the plan's.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A piece of the input, before it has a place in a plan.

    Attributes:
        files: Paths relative to the input's root: one file, or a slice of a folder's images.
        start: First row in the file (0 for images).
        stop: One past the last row.
        offset: Byte at which the first row begins, in JSON lines and tar shards; -1 where a tar
            shard is read by key (`webdataset`).
        taken: Which of these rows are in it, a bit for each, the first in the highest bit of the
            first byte; None for all.
    """

    files: tuple[str, ...]
    start: int
    stop: int
    offset: int = 0
    taken: bytes | None = None

    @property
    def rows(self) -> int:
        """Rows in it, and in its output file."""
        if self.taken is None:
            return self.stop - self.start
        return int.from_bytes(self.taken, "big").bit_count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit(Cut):
    """A piece of the input that becomes one output file.

    Attributes:
        index: Its position in the plan, from 0; output files sort by it.
        id: See `unit_id`.
        part: Name of its output file.
        replaces: Index of the unit whose output file it replaces because the input changed.
        ancestors: Ids of that unit, of the one which that replaced, and so on.
        size: Of a unit of one file: the file's size when it was planned, in bytes.
        tag: That file's `fingerprint` at the same time; empty for several files.
    """

    index: int
    id: str
    part: str
    replaces: int | None = None
    ancestors: tuple[str, ...] = ()
    size: int = 0
    tag: str = ""

    @property
    def name(self) -> str:
        """The file and the rows, for messages."""
        if len(self.files) == 1:
            return f"{self.files[0]} rows {self.start}-{self.stop}"
        return f"{self.files[0]} to {self.files[-1]}"


@dataclass(frozen=True, slots=True)
class Work:
    """Rows of a unit that are still to be computed.

    Attributes:
        unit: The unit.
        positions: Their positions in the unit, ascending; None for all rows.
    """

    unit: Unit
    positions: tuple[int, ...] | None = None

    @property
    def missing(self) -> Sequence[int]:
        """Positions of the rows to compute, ascending."""
        return range(self.unit.rows) if self.positions is None else self.positions

    @property
    def rows(self) -> int:
        """How many rows are to be computed."""
        return len(self.missing)


def unit_id(
    contents: Iterable[tuple[str, int, str]], start: int, stop: int, taken: bytes | None = None
) -> str:
    """A unit's id: the same in every run and on every machine, as long as its input is.

    Args:
        contents: Relative path, size in bytes and tag (`fingerprint`) of each file.
        start: First row.
        stop: One past the last row.
        taken: See `Cut`.

    Returns:
        A hash of all of them, as 20 hex digits.
    """
    identity: list[object] = [[list(content) for content in contents], start, stop]
    if taken is not None:
        identity.append(taken.hex())
    return hashlib.blake2b(json.dumps(identity).encode(), digest_size=10).hexdigest()


def cut_row_groups(row_groups: Sequence[int], unit_rows: int) -> list[tuple[int, int]]:
    """Row ranges `[start, stop)` of at most `unit_rows` rows that keep row groups whole.

    Only a row group with more rows is cut, into slices of nearly equal length.

    Args:
        row_groups: Rows of each row group, in file order.
        unit_rows: Most rows of a range.
    """
    ranges: list[tuple[int, int]] = []
    start = stop = 0
    for rows in row_groups:
        if stop > start and stop - start + rows > unit_rows:
            ranges.append((start, stop))
            start = stop
        stop += rows
        if rows > unit_rows:
            ranges.extend(cut_evenly(start, stop, unit_rows))
            start = stop
    if stop > start:
        ranges.append((start, stop))
    return ranges


def cut_evenly(start: int, stop: int, unit_rows: int) -> list[tuple[int, int]]:
    """Cut `[start, stop)` into the fewest ranges of at most `unit_rows`, of nearly equal length."""
    if stop == start:
        return []
    pieces = -(-(stop - start) // unit_rows)
    borders = [start + (stop - start) * i // pieces for i in range(pieces + 1)]
    return list(itertools.pairwise(borders))
