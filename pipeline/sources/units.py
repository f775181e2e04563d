"""What a unit is and how its id is made: the grain of progress and of output files.

Decides identity and the arithmetic of cutting. What the files are, and in which pieces they are
best read, is the source's to know; which units there are is the plan's.
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
        files: Input-relative paths: one file, or the images of a slice of the listing.
        start: First row in the file (0 for images).
        stop: One past the last row.
        offset: Byte at which the first row begins, where the format has such (JSON lines, tar).
    """

    files: tuple[str, ...]
    start: int
    stop: int
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit(Cut):
    """A piece of the input that becomes one output file.

    Attributes:
        index: Place among the plan's units, from 0; output files sort by it.
        id: Hash of what the unit holds: the same from run to run and on every machine.
        part: Name of its output file.
        replaces: Index of the unit whose output file it takes over, because the input changed.
    """

    index: int
    id: str
    part: str
    replaces: int | None = None

    @property
    def rows(self) -> int:
        """How many rows it has, and so its output file."""
        return self.stop - self.start

    @property
    def name(self) -> str:
        """For messages: the file and the rows."""
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


def unit_id(contents: Iterable[tuple[str, int, str]], start: int, stop: int) -> str:
    """20 hex digits over each file's relative path, size and content tag, and the row range."""
    identity = [[list(content) for content in contents], start, stop]
    return hashlib.blake2b(json.dumps(identity).encode(), digest_size=10).hexdigest()


def cut_row_groups(row_groups: Sequence[int], unit_rows: int) -> list[tuple[int, int]]:
    """Row ranges `[start, stop)` of about `unit_rows` rows, at the borders of row groups.

    A row group that is larger by itself is cut inside, into even slices.

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
    pieces = -(-(stop - start) // unit_rows)
    borders = [start + (stop - start) * i // pieces for i in range(pieces + 1)]
    return list(itertools.pairwise(borders))
