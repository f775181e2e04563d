"""Decides which rows of new files are taken: those that match, and of these the first or a sample.

What is taken of a file stands once it is planned. Of a limit, later files fill up what is left; a
sample is drawn once, from the files of the first run.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.contract.errors import UserError
from pipeline.sources.listing import ROW_A_FILE, Kind
from pipeline.sources.selection.filters import Filter
from pipeline.sources.selection.matches import matching
from pipeline.sources.selection.sampling import sampled
from pipeline.sources.selection.taken import MOST_READ, are_taken, packed
from pipeline.storage.parallel import AHEAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa

    from pipeline.contract.config import SliceSettings
    from pipeline.sources.source import Source
    from pipeline.sources.units import Cut
    from pipeline.storage.location import FileInfo

AHEAD_OF_LIMIT = 4
"""Files that are filtered ahead where the first of them may have enough rows."""
MOST_JOINED = 2**18
"""Most rows of a parquet file over which those of a unit are spread."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which rows of an input are taken.

    Attributes:
        condition: The rows that match; None for all.
        limit: Only the first so many of these.
        sample: Only so many of these, drawn at random.
        seed: Random seed of the sample.
        unit_rows: Most rows of a unit that is joined of several cuts.
    """

    condition: Filter | None = None
    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    unit_rows: int = 1

    @staticmethod
    def of(settings: SliceSettings, schema: pa.Schema, unit_rows: int) -> Selection:
        """The selection that settings describe.

        Args:
            settings: The settings.
            schema: The input's columns.
            unit_rows: Most rows of a unit.

        Raises:
            UserError: They exclude each other, or the condition does not suit the columns.
        """
        if settings.limit is not None and settings.sample is not None:
            raise UserError("sample: excludes limit, as both say how many rows; leave one out")
        return Selection(
            condition=None if settings.where is None else Filter.of(settings.where, schema),
            limit=settings.limit,
            sample=settings.sample,
            seed=settings.sample_seed,
            unit_rows=unit_rows,
        )

    @property
    def is_bounded(self) -> bool:
        """Whether the number of rows is given, so that not all files need be planned."""
        return self.limit is not None or self.sample is not None

    @property
    def is_all(self) -> bool:
        """Whether every row is taken."""
        return self.condition is None and not self.is_bounded

    def left(self, planned: int) -> int | None:
        """How many rows of further files are taken, after so many; None for all."""
        if self.sample is not None:
            return 0 if planned else self.sample
        return None if self.limit is None else max(0, self.limit - planned)

    def cuts(self, source: Source, files: Sequence[FileInfo], planned: int = 0) -> Iterator[Cut]:
        """The cuts of files with the rows that are taken; of those without any, none.

        Args:
            source: What cuts and reads the files.
            files: Files that are not planned.
            planned: Rows that are taken already, of other files.

        Raises:
            UserError: A file cannot be read, or its columns differ.
        """
        if self.is_all:
            return source.cut(files)
        left = self.left(planned)
        if left == 0:
            return iter(())
        rows = self._matching(source, self._cut(source, files, left))
        if self.sample is not None:
            rows = sampled(rows, self.sample, self.seed)
        elif left is not None:
            rows = _first(rows, left)
        taken = (with_rows(cut, some, source.kind) for cut, some in rows if len(some))
        cuts = joined(taken, self.unit_rows, source.kind)
        return (trimmed(cut, source.kind) for cut in cuts)

    def _cut(self, source: Source, files: Sequence[FileInfo], left: int | None) -> Iterable[Cut]:
        """All cuts. Files that must be read to be cut are, where there is a limit, one by one."""
        if self.limit is None or source.kind is Kind.PARQUET:
            return source.cut(files)
        if source.kind in ROW_A_FILE:
            return source.cut(files if self.condition else files[:left])
        return itertools.chain.from_iterable(source.cut([file]) for file in files)

    def _matching(self, source: Source, cuts: Iterable[Cut]) -> Iterator[tuple[Cut, np.ndarray]]:
        if self.condition is None:
            return ((cut, np.arange(cut.rows)) for cut in cuts)
        ahead = AHEAD if self.limit is None else AHEAD_OF_LIMIT
        return matching(source, cuts, self.condition, ahead)


ALL_ROWS = Selection()
"""Every row of an input."""


def _first(rows: Iterable[tuple[Cut, np.ndarray]], left: int) -> Iterator[tuple[Cut, np.ndarray]]:
    """The first rows; what comes after the last of them is not asked for."""
    for cut, some in rows:
        yield cut, some[:left]
        left -= len(some)
        if left <= 0:
            return


def with_rows(cut: Cut, rows: np.ndarray, kind: Kind) -> Cut:
    """A whole cut of which these rows are taken: of images and videos these files."""
    if len(rows) == cut.rows:
        return cut
    if kind in ROW_A_FILE:
        files = tuple(cut.files[row] for row in rows.tolist())
        return replace(cut, files=files, start=0, stop=len(files))
    return replace(cut, taken=packed(rows, cut.rows))


def joined(cuts: Iterable[Cut], unit_rows: int, kind: Kind) -> Iterator[Cut]:
    """Join cuts of which little is taken, so that output files are not tiny."""
    held: Cut | None = None
    for cut in cuts:
        both = None if held is None else _both(held, cut, kind)
        if held is not None and (both is None or not _is_unit(both, unit_rows, kind)):
            yield held
            both = None
        held = cut if both is None else both
    if held is not None:
        yield held


def _is_unit(cut: Cut, unit_rows: int, kind: Kind) -> bool:
    """Whether a joined cut is not too large, nor much read for little where all of it must be."""
    most_read = MOST_JOINED if kind is Kind.PARQUET else MOST_READ * cut.rows
    return cut.rows <= unit_rows and cut.stop - cut.start <= most_read


def _both(one: Cut, other: Cut, kind: Kind) -> Cut | None:
    """Two cuts as one; None unless they lie side by side, or in one parquet file."""
    if kind in ROW_A_FILE:
        files = one.files + other.files
        return replace(one, files=files, stop=len(files))
    gap = other.start - one.stop
    if one.files != other.files or (gap and kind is not Kind.PARQUET):
        return None
    between = np.zeros(gap, dtype=bool)
    rows = np.flatnonzero(np.concatenate([are_taken(one), between, are_taken(other)]))
    return with_rows(replace(one, stop=other.stop, taken=None), rows, kind)


def trimmed(cut: Cut, kind: Kind) -> Cut:
    """A cut without what need not be read before and after its rows."""
    if cut.taken is None:
        return cut
    rows = np.flatnonzero(are_taken(cut))
    # Other formats are read from the byte at which the cut begins.
    first = int(rows[0]) if kind is Kind.PARQUET else 0
    start, stop = cut.start + first, cut.start + int(rows[-1]) + 1
    return with_rows(replace(cut, start=start, stop=stop, taken=None), rows - first, kind)
