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
from pipeline.sources.listing import Kind
from pipeline.sources.selection.filters import Filter
from pipeline.sources.selection.matches import matching
from pipeline.sources.selection.sampling import sampled
from pipeline.sources.selection.selected_rows import packed, taken_rows
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
MOST_JOINED = 16
"""Cuts of which a unit may be made: all their rows are read to get those that are taken."""


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
        is_images = source.kind is Kind.IMAGES
        taken = (_with_rows(cut, some, is_images) for cut, some in rows if len(some))
        return _joined(taken, self.unit_rows, is_images)

    def _cut(self, source: Source, files: Sequence[FileInfo], left: int | None) -> Iterable[Cut]:
        """All cuts. Files that must be read to be cut are, where there is a limit, one by one."""
        if self.limit is None or source.kind is Kind.PARQUET:
            return source.cut(files)
        if source.kind is Kind.IMAGES:
            return source.cut(files if self.condition else files[:left])
        return itertools.chain.from_iterable(source.cut([file]) for file in files)

    def _matching(
        self, source: Source, cuts: Iterable[Cut]
    ) -> Iterator[tuple[Cut, np.ndarray]]:
        if self.condition is None:
            return ((cut, np.arange(cut.rows)) for cut in cuts)
        ahead = AHEAD if self.limit is None else AHEAD_OF_LIMIT
        return matching(source, cuts, self.condition, ahead)


ALL_ROWS = Selection()
"""Every row of an input."""


def _first(
    rows: Iterable[tuple[Cut, np.ndarray]], left: int
) -> Iterator[tuple[Cut, np.ndarray]]:
    """The first rows; what comes after the last of them is not asked for."""
    for cut, some in rows:
        yield cut, some[:left]
        left -= len(some)
        if left <= 0:
            return


def _with_rows(cut: Cut, rows: np.ndarray, is_images: bool) -> Cut:
    """A cut of which these rows are taken: of images these files."""
    if is_images:
        files = tuple(cut.files[row] for row in rows.tolist())
        return replace(cut, files=files, start=0, stop=len(files))
    if rows[-1] == len(rows) - 1:  # the first ones
        return replace(cut, stop=cut.start + len(rows))
    return replace(cut, taken=packed(rows, cut.rows))


def _joined(cuts: Iterable[Cut], unit_rows: int, is_images: bool) -> Iterator[Cut]:
    """Join cuts that follow each other and have few rows, so that output files are not tiny."""
    held: list[Cut] = []
    for cut in cuts:
        rows = sum(one.rows for one in held) + cut.rows
        if held and (rows > unit_rows or len(held) == MOST_JOINED or not _follows(held[-1], cut, is_images)):
            yield _one_of(held, is_images)
            held = []
        held.append(cut)
    if held:
        yield _one_of(held, is_images)


def _follows(one: Cut, other: Cut, is_images: bool) -> bool:
    return is_images or (one.files == other.files and one.stop == other.start)


def _one_of(cuts: Sequence[Cut], is_images: bool) -> Cut:
    first, last = cuts[0], cuts[-1]
    if len(cuts) == 1:
        return first
    if is_images:
        files = tuple(file for cut in cuts for file in cut.files)
        return replace(first, files=files, stop=len(files))
    rows = np.flatnonzero(np.concatenate([taken_rows(cut) for cut in cuts]))
    whole = replace(first, stop=last.stop, taken=None)
    return _with_rows(whole, rows, is_images=False)
