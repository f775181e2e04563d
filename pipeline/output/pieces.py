"""The units that a plan gets: their rows, their files, and the unit whose part each takes over.

Decides that each file of an input is in a plan, by a unit without rows where none of its rows is
planned or the file was taken away: it is looked at again only once it has changed or is back.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from pipeline.output.comparison import TAKEN_AWAY
from pipeline.sources.units import Cut, Unit, unit_id
from pipeline.storage.fingerprint import fingerprints

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.sources import Selection, Source
    from pipeline.storage.location import FileInfo, Location

Entry = dict[str, Any]
"""An input file as a plan has it: `path`, `size`, `stamp`, `tag`."""
Piece = tuple[Cut, list[Entry], Unit | None]
"""A unit that is planned: its rows, its files, and the unit whose part it takes over."""


def of_new_files(
    files: Sequence[FileInfo], source: Source, selection: Selection, planned: int = 0
) -> Iterator[Piece]:
    """The pieces of files that no unit has; they come in the files' order.

    Args:
        files: The files.
        source: What cuts them.
        selection: Which of their rows are planned.
        planned: Rows that are planned already.
    """
    cuts: Iterable[Cut] = selection.cuts(source, files, planned)
    if selection.sample is not None:
        cuts = [*cuts]
        files = _files_of(cuts, files)
    if not files:
        return
    entries = entries_of(source.root, files)
    entry, is_used = next(entries), False
    for cut in cuts:
        taken = []
        for path in cut.files:
            while entry["path"] != path:
                if not is_used:
                    yield without_rows(entry)
                entry, is_used = next(entries), False
            taken.append(entry)
            is_used = True
        yield cut, taken, None
        planned += cut.rows
    if selection.left(planned) == 0:
        return  # further files are not looked at
    rest = entries if is_used else itertools.chain([entry], entries)
    yield from map(without_rows, rest)


def entries_of(root: Location, files: Sequence[FileInfo]) -> Iterator[Entry]:
    """The files as a plan has them, one after the other."""
    for file, tag in zip(files, fingerprints(root, files), strict=True):
        yield {"path": file.path, "size": file.size, "stamp": file.stamp, "tag": tag}


def without_rows(entry: Entry) -> Piece:
    """A piece without rows, so that a file without rows counts as planned."""
    return Cut(files=(entry["path"],), start=0, stop=0), [entry], None


def taken_away(path: str) -> Piece:
    """A piece that says that no unit has this file any more: it is planned once it is back."""
    return without_rows({"path": path, "size": -1, "stamp": "", "tag": TAKEN_AWAY})


def id_of(cut: Cut, files: Iterable[Entry]) -> str:
    """The id of a unit, by the contents of its files and its rows."""
    contents = [(file["path"], file["size"], file["tag"]) for file in files]
    return unit_id(contents, cut.start, cut.stop, cut.taken)


def _files_of(cuts: Iterable[Cut], files: Iterable[FileInfo]) -> list[FileInfo]:
    paths = {path for cut in cuts for path in cut.files}
    return [file for file in files if file.path in paths]
