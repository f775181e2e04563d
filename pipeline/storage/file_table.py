"""Many files of a listing, in Arrow columns: as little memory as their names, or less.

A hundred million names as Python objects would take 26 GB. Here up to `BATCH` files are held in
memory; more of them lie in a file of this machine's temporary folder, which is mapped, so that the
system keeps of it in memory what it has room for. The file has no name any more once it is written,
and goes with the last table that uses it.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage.location import FileInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BATCH = 32_768
"""Files that are handled at once."""
SCHEMA = pa.schema(
    [pa.field("path", pa.string()), pa.field("size", pa.int64()), pa.field("stamp", pa.string())]
)


class FileTable(Sequence[FileInfo]):
    """Files in the order in which they were given.

    Args:
        table: A table of `SCHEMA`.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        """How many files."""
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, place: int) -> FileInfo: ...

    @overload
    def __getitem__(self, place: slice) -> FileTable: ...

    def __getitem__(self, place: int | slice) -> FileInfo | FileTable:
        """One file, or some in a row as a table that shares their memory."""
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            assert step == 1, "files are taken in their order"
            return FileTable(self._table.slice(start, max(0, stop - start)))
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        (file,) = FileTable(self._table.slice(place % len(self), 1))
        return file

    def __iter__(self) -> Iterator[FileInfo]:
        """All files in order."""
        for batch in self._table.to_batches(max_chunksize=BATCH):
            paths, sizes, stamps = (column.to_pylist() for column in batch.columns)
            yield from map(FileInfo, paths, sizes, stamps)

    def by_path(self) -> FileTable:
        """The files sorted by path: this table, unless a store gave them in another order."""
        is_sorted = are_ascending(self.paths.chunks)
        return self if is_sorted else FileTable(self._table.sort_by("path"))

    @property
    def paths(self) -> pa.ChunkedArray:
        """The files' paths, without a Python object for each."""
        return self._table["path"]


def tabulate(files: Iterable[FileInfo]) -> FileTable:
    """A table of these files. They are taken one by one, and not kept. Raises OSError."""
    with FileTableWriter() as writer:
        for file in files:
            writer.add(file)
        return writer.table()


class FileTableWriter:
    """Makes a table of files that are found one by one; a context manager."""

    def __init__(self) -> None:
        self._held: list[FileInfo] = []
        self._stack = contextlib.ExitStack()
        self._path: str | None = None
        self._writer: pa.RecordBatchFileWriter | None = None

    def __enter__(self) -> FileTableWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __len__(self) -> int:
        """Files that are held in memory."""
        return len(self._held)

    def add(self, file: FileInfo) -> None:
        """Add a file at the end. Raises OSError where the temporary folder is full."""
        self._held.append(file)
        if len(self._held) == BATCH:
            self._spool()

    def table(self) -> FileTable:
        """All files that were added. Raises OSError."""
        if self._writer is None:
            return FileTable(pa.Table.from_batches([_batch(self._held)], SCHEMA))
        self._spool()
        self._writer.close()
        assert self._path is not None
        mapped = pa.ipc.open_file(pa.memory_map(self._path)).read_all()
        return FileTable(mapped)

    def _spool(self) -> None:
        if self._writer is None:
            descriptor, self._path = tempfile.mkstemp(prefix="gemma3-batch-listing-")
            os.close(descriptor)
            self._stack.callback(os.unlink, self._path)
            self._writer = self._stack.enter_context(pa.ipc.new_file(self._path, SCHEMA))
        self._writer.write_batch(_batch(self._held))
        self._held.clear()


def are_ascending(pieces: Iterable[pa.Array]) -> bool:
    """Whether texts, given piece by piece, are in order."""
    last = ""
    for texts in pieces:
        if not len(texts):
            continue
        is_ascending = pc.all(pc.less_equal(texts[:-1], texts[1:]), min_count=0).as_py()
        if texts[0].as_py() < last or not is_ascending:
            return False
        last = texts[-1].as_py()
    return True


def _batch(files: Sequence[FileInfo]) -> pa.RecordBatch:
    columns = (
        [file.path for file in files],
        [file.size for file in files],
        [file.stamp for file in files],
    )
    pairs = zip(columns, SCHEMA, strict=True)
    return pa.record_batch([pa.array(c, field.type) for c, field in pairs], schema=SCHEMA)
