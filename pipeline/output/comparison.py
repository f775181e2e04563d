"""What has changed in an input since it was planned: files that are new, changed, or gone.

Both sides are read once, in the order of their paths: the listing, and for each plan file the
input files that it has. So memory holds a batch of each, however many files there are; only the
entries of a plan file that is not in order (it has new and changed files) are sorted in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.output.plan import FILE
from pipeline.storage.file_table import BATCH, FileTable, FileTableWriter, are_ascending
from pipeline.storage.fingerprint import fingerprints

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.output.plan import Plan, PlanFile
    from pipeline.sources import Listing
    from pipeline.storage.location import FileInfo, Location

UNITS_READ = 16
"""Units of a plan whose files are read at once; one of images has some thousand files."""
TAKEN_AWAY = "taken away"
"""The tag of an input file whose units were dropped because it was gone (see `extension`)."""
Entry = tuple[int, str, str]
"""Size, stamp and fingerprint of a planned file."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """An input against a plan.

    Attributes:
        new: Files that no unit has.
        changed: Files that are not what their units were planned from.
        gone: [files] string, paths of planned files that are not in the input.
        unchanged: How many files are as they were planned.
    """

    new: FileTable
    changed: FileTable
    gone: pa.ChunkedArray
    unchanged: int

    def __bool__(self) -> bool:
        """Whether the plan must be extended before it covers the input."""
        return bool(self.new) or bool(self.changed)


def compare(plan: Plan, listing: Listing) -> Changes:
    """Find what is new, changed or gone in an input. Raises OSError."""
    planned = [_Entries(file) for file in plan.files]
    unchanged, gone = 0, []
    with FileTableWriter() as new, FileTableWriter() as changed:
        for start in range(0, len(listing.files), BATCH):
            files = listing.files[start : start + BATCH]
            known, absent = _known(planned, files)
            gone.append(absent)
            is_same = _are_unchanged(files, known, listing.root)
            for file in files:
                if file.path not in known:
                    new.add(file)
                elif not is_same[file.path]:
                    changed.add(file)
                else:
                    unchanged += 1
        gone += [paths for entries in planned for paths in entries.rest()]
        return Changes(
            new=new.table(),
            changed=changed.table(),
            gone=pa.chunked_array(gone, pa.string()),
            unchanged=unchanged,
        )


def _known(
    planned: Sequence[_Entries], files: Sequence[FileInfo]
) -> tuple[dict[str, Entry], pa.Array]:
    """The entries of these files, the newest of each; and paths up to theirs that they have not."""
    paths = pa.array([file.path for file in files], pa.string())
    known: dict[str, Entry] = {}
    absent = []
    for entries in planned:  # oldest first: a later one is of a changed file
        for table in entries.up_to(files[-1].path):
            is_here = pc.is_in(table["path"], value_set=paths)
            absent.append(_still_planned(table.filter(pc.invert(is_here))))
            columns = (table.filter(is_here)[name].to_pylist() for name in FILE.names)
            known.update((path, tuple(rest)) for path, *rest in zip(*columns, strict=True))  # type: ignore[misc]
    return known, pa.concat_arrays([pa.array([], pa.string()), *absent])


def _are_unchanged(
    files: Sequence[FileInfo], known: dict[str, Entry], root: Location
) -> dict[str, bool]:
    """By size and stamp; where only the stamp differs (a copy elsewhere), by fingerprint."""
    same: dict[str, bool] = {}
    unsure = []
    for file in files:
        size, stamp, tag = known.get(file.path, (-1, "", ""))
        same[file.path] = file.size == size and file.stamp == stamp and tag != TAKEN_AWAY
        if file.size == size and file.stamp != stamp and tag != TAKEN_AWAY:
            unsure.append(file)
    for file, tag in zip(unsure, fingerprints(root, unsure), strict=True):
        same[file.path] = tag == known[file.path][2]
    return same


class _Entries:
    """The input files of one plan file, by path.

    Args:
        file: The plan file.
    """

    def __init__(self, file: PlanFile) -> None:
        is_sorted = are_ascending(table["path"].combine_chunks() for table in _tables(file))
        self._tables = _tables(file) if is_sorted else iter([_sorted(file)])
        self._next: pa.Table | None = next(self._tables, None)

    def up_to(self, path: str) -> Iterator[pa.Table]:
        """The entries that were not taken yet up to this path, in tables of `FILE`'s fields."""
        while self._next is not None:
            table = self._next
            count = pc.sum(pc.less_equal(table["path"], path)).as_py() or 0
            if count:
                yield table.slice(0, count)
            if count < table.num_rows:
                self._next = table.slice(count)
                return
            self._next = next(self._tables, None)

    def rest(self) -> Iterator[pa.Array]:
        """The paths that were not taken."""
        while self._next is not None:
            yield _still_planned(self._next)
            self._next = next(self._tables, None)


def _still_planned(table: pa.Table) -> pa.Array:
    """Paths of entries, without those that were found gone before."""
    return table.filter(pc.not_equal(table["tag"], TAKEN_AWAY))["path"].combine_chunks()


def _tables(file: PlanFile) -> Iterator[pa.Table]:
    """A plan file's input files in its order; one that follows itself is there once."""
    last = None
    with file.location.open() as opened, pq.ParquetFile(opened) as parquet:
        for batch in parquet.iter_batches(UNITS_READ, columns=["files"]):
            entries = batch.column(0).flatten()
            table = pa.table([entries.field(name) for name in FILE.names], names=FILE.names)
            paths = table["path"].combine_chunks()
            if len(paths):
                is_new = pa.concat_arrays(
                    [pa.array([paths[0].as_py() != last]), pc.not_equal(paths[1:], paths[:-1])]
                )
                last = paths[-1].as_py()
                yield table.filter(is_new)


def _sorted(file: PlanFile) -> pa.Table:
    """All entries by path; of one path those that come later in the file last."""
    table = pa.concat_tables([pa.schema(list(FILE)).empty_table(), *_tables(file)])
    return table.take(pc.sort_indices(table["path"])) if table.num_rows else table
