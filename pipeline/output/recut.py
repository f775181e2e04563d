"""The units of files that have changed since they were planned, or that were gone and are back.

Decides which old unit's part each takes over: units that are the same as before stay, the others
follow one another, and old units beyond those are dropped.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.output.pieces import Piece, entries_of, id_of, of_new_files, taken_away, without_rows
from pipeline.sources import ROW_A_FILE
from pipeline.sources.units import Cut, Unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.output.comparison import Changes
    from pipeline.output.plan import Plan
    from pipeline.sources import Selection, Source


class Recut:
    """The pieces of files that have changed, or that were gone and are back.

    Attributes:
        dropped: Indices of old units whose parts no piece takes over; complete at the end.
    """

    def __init__(self, plan: Plan, changes: Changes, source: Source, selection: Selection) -> None:
        self.dropped: list[int] = []
        self._selection = selection
        self._plan = plan
        self._source = source
        self._changes = changes
        self._files = {file.path: file for file in changes.changed}
        entries = entries_of(source.root, changes.changed)
        self._entries = {entry["path"]: entry for entry in entries}

    def pieces(self) -> Iterator[Piece]:
        """The pieces, each with the unit whose part it takes over, if any."""
        if not self._files:
            return
        touched = self._plan.units_of(pa.array(self._files, pa.string()))
        old = (self._plan.unit(index) for index, _ in touched)
        yield from self._of_images(old) if self._source.kind in ROW_A_FILE else self._of_rows(old)

    def _of_images(self, old: Iterable[Unit]) -> Iterator[Piece]:
        """Old units without the images that are gone; and images that no unit has any more."""
        gone = set(self._changes.gone.to_pylist())
        back = dict(self._files)
        for unit in old:
            if not unit.rows:  # of an image that was not taken
                continue
            planned = self._plan.entry(unit.index)["files"]
            files = [self._entries.get(f["path"], f) for f in planned if f["path"] not in gone]
            paths = tuple(file["path"] for file in files)
            for path in paths:
                back.pop(path, None)
            yield Cut(files=paths, start=0, stop=len(paths)), files, unit
            yield from (taken_away(f["path"]) for f in planned if f["path"] in gone)
        yield from of_new_files([*back.values()], self._source, self._selection)

    def _of_rows(self, old: Iterable[Unit]) -> Iterator[Piece]:
        """Each file anew; units that are the same as before stay."""
        olds: dict[str, list[Unit]] = {}
        for unit in old:
            olds.setdefault(unit.files[0], []).append(unit)
        for path, file in sorted(self._files.items()):
            entry = self._entries[path]
            found = self._selection.cuts(self._source, [file])
            cuts = {id_of(cut, [entry]): cut for cut in found}
            obsolete = [unit for unit in olds.get(path, ()) if unit.id not in cuts]
            kept = {unit.id for unit in olds.get(path, ())}
            new = [cut for name, cut in cuts.items() if name not in kept]
            for cut, unit in itertools.zip_longest(new, obsolete[: len(new)]):
                yield cut, [entry], unit
            if not new:
                yield without_rows(entry)
            self.dropped.extend(unit.index for unit in obsolete[len(new) :])
