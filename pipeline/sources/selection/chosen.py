"""Rows that were chosen before a run: these are taken and no others, as a drawn sample is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.sources.selection.selection import Selection, joined, trimmed, with_rows
from pipeline.sources.selection.taken import are_taken

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.sources.listing import Kind
    from pipeline.sources.source import Source
    from pipeline.sources.units import Cut
    from pipeline.storage.location import FileInfo


@dataclass(frozen=True, kw_only=True)
class Chosen(Selection):
    """Cuts that hold the chosen rows.

    Attributes:
        chosen: The cuts, in the order of the input's files.
    """

    chosen: tuple[Cut, ...]

    @staticmethod
    def of_rows(rows: Iterable[tuple[Cut, np.ndarray]], kind: Kind, unit_rows: int) -> Chosen:
        """Choose rows.

        Args:
            rows: Cuts in the order of the input's files, each with the rows of it: [n] int64,
                ascending, counted among those that are taken of it.
            kind: The format of the files.
            unit_rows: Most rows of a unit that is joined of several cuts.
        """
        some = (_of_cut(cut, taken, kind) for cut, taken in rows if len(taken))
        cuts = tuple(trimmed(cut, kind) for cut in joined(some, unit_rows, kind))
        return Chosen(chosen=cuts, sample=sum(cut.rows for cut in cuts))

    def cuts(self, source: Source, files: Sequence[FileInfo], planned: int = 0) -> Iterator[Cut]:
        """The chosen ones; see `Selection.cuts`."""
        return iter(() if planned else self.chosen)


def _of_cut(cut: Cut, rows: np.ndarray, kind: Kind) -> Cut:
    """A cut, some rows of which may be left out already, with some of the others."""
    if cut.taken is None:
        return with_rows(cut, rows, kind)
    return with_rows(replace(cut, taken=None), np.flatnonzero(are_taken(cut))[rows], kind)
