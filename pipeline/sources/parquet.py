"""Decides how parquet files are read.

A unit is a range of row groups, or a slice of a row group that is larger than a unit. Only the row
groups and columns asked for are read. Keys in paths (`hive`) are columns at the end of the schema,
unless the file has a column of that name. The schema is that of all files (`unified`), and a file's
rows are fitted to it (`fit`).

Columns pass through with their types. Binary ones (images, and large) are dropped unless
`keep_images` is set. In structs, such as the `struct<bytes, path>` of Hugging Face datasets, and in
lists of them, only `bytes` becomes null, so that `path` still says which image it was.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.contract.errors import UserError
from pipeline.sources.columns import leaves_kept, without_binary, without_columns
from pipeline.sources.fit import fit
from pipeline.sources.hive import partition_fields, partition_value, partition_values
from pipeline.sources.listing import Kind
from pipeline.sources.parquet_batches import Reading
from pipeline.sources.source import COPY_ROWS, READ_ROWS
from pipeline.sources.unified import unified
from pipeline.sources.units import Cut, cut_row_groups
from pipeline.sources.unreadable import user_errors
from pipeline.storage.backoff import with_backoff
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipeline.sources.listing import Listing
    from pipeline.storage.location import FileInfo, Location

TAIL = 64 * 1024
"""Bytes at a file's end that nearly always include its whole footer."""
FOOTER_END = 8
"""A parquet file ends with the footer's length (4 bytes, little endian) and `PAR1`."""
MAGIC = b"PAR1"
KEPT_FOOTERS = 100_000
"""Files whose row groups are kept in memory from the look at their columns until they are cut."""


class _RowGroups(dict[tuple[str, str], tuple[int, ...]]):
    """Rows of each row group of files whose footers were read, by path and stamp.

    They are not sent to other processes, which cut nothing.
    """

    def __reduce__(self) -> tuple[type[_RowGroups], tuple[()]]:
        return _RowGroups, ()


@dataclass(frozen=True)
class ParquetSource:
    """A `Source` over parquet files."""

    root: Location
    schema: pa.Schema
    unit_rows: int
    keep_images: bool
    _row_groups: _RowGroups = dataclass_field(default_factory=_RowGroups, repr=False, compare=False)
    kind = Kind.PARQUET

    @staticmethod
    def from_listing(
        listing: Listing, unit_rows: int, keep_images: bool, schema: pa.Schema | None
    ) -> ParquetSource:
        """The source with this schema, or else with that of all files that have rows.

        Args:
            listing: The files.
            unit_rows: Most rows of a unit.
            keep_images: Whether binary columns pass through.
            schema: The columns as an earlier plan recorded them.

        Raises:
            UserError: A file cannot be read, none has rows, or their columns cannot be united.
        """
        source = ParquetSource(listing.root, schema or pa.schema([]), unit_rows, keep_images)
        if schema is not None:
            return source
        found = unified(source._columns_of(listing.files, None))
        if found is None:
            raise UserError(f"INPUT {listing.root / listing.files[0].path} has no rows")
        return source.with_schema(found)

    def with_schema(self, schema: pa.Schema) -> ParquetSource:
        """The same source with these columns."""
        return replace(self, schema=schema)

    def with_columns_of(self, files: Sequence[FileInfo]) -> ParquetSource:
        """The same source with the columns of these files too; reads their footers."""
        found = unified(self._columns_of(files, self.schema), planned=self.schema)
        assert found is not None, "there is a planned schema"
        return self.with_schema(found)

    @property
    def passthrough_schema(self) -> pa.Schema:
        """All columns, without binary ones unless images are kept."""
        return self.schema if self.keep_images else without_binary(self.schema)

    def cut(self, files: Sequence[FileInfo]) -> Iterator[Cut]:
        """Cut the files; reads the footers of those whose columns were not looked at."""
        for file, row_groups in zip(files, in_order(self._sizes_of, files), strict=True):
            for start, stop in cut_row_groups(row_groups, self.unit_rows):
                yield Cut(files=(file.path,), start=start, stop=stop)

    def read(self, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield a unit's rows in tables of at most `READ_ROWS`."""
        yield from self._slices(unit, pa.schema([self.schema.field(n) for n in columns]), READ_ROWS)

    def passthrough(self, unit: Cut) -> Iterator[pa.Table]:
        """Yield a unit's rows; images that do not pass through are not read."""
        rows = READ_ROWS if self.keep_images else COPY_ROWS
        yield from self._slices(unit, self.passthrough_schema, rows, has_images=self.keep_images)

    def _columns_of(
        self, files: Sequence[FileInfo], planned: pa.Schema | None
    ) -> Iterator[tuple[str, pa.Schema]]:
        """Each file that has rows, and its columns, those in its path too."""
        in_paths = {f.name: f.type for f in partition_fields(file.path for file in files)}
        if planned is not None:
            in_paths |= {f.name: f.type for f in planned}
        footers = in_order(lambda file: _footer(self.root, file), files)
        for file, (schema, row_groups) in zip(files, footers, strict=True):
            if len(self._row_groups) < KEPT_FOOTERS:
                self._row_groups[file.path, file.stamp] = row_groups
            if sum(row_groups):
                added = [f for f in _fields_of_path(file, in_paths) if f.name not in schema.names]
                yield file.path, pa.schema([*schema, *added], metadata=schema.metadata)

    def _sizes_of(self, file: FileInfo) -> tuple[int, ...]:
        """Rows of each row group of a file, whose columns are checked unless it has no rows."""
        known = self._row_groups.pop((file.path, file.stamp), None)
        if known is not None:
            return known
        schema, row_groups = _footer(self.root, file)
        if sum(row_groups):
            planned = {field.name: field.type for field in self.schema}
            added = [f for f in _fields_of_path(file, planned) if f.name not in schema.names]
            unified([(file.path, pa.schema([*schema, *added]))], planned=self.schema)
        return row_groups

    def group_begins(self, path: str) -> list[int]:
        """The first row of each row group of a file. Raises OSError, pa.ArrowException."""
        where = self.root / path
        exact: dict[str, Any] = {} if where.is_local else {"cache_type": "none"}
        with where.fs.open(where.path, "rb", **exact) as file, pq.ParquetFile(file) as parquet:
            meta = parquet.metadata
            sizes = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
        return [0, *itertools.accumulate(sizes)][:-1]

    def _slices(
        self, unit: Cut, wanted: pa.Schema, rows: int, *, has_images: bool = True
    ) -> Iterator[pa.Table]:
        """A unit's rows.

        Args:
            unit: A piece of one file.
            wanted: The columns of the tables.
            rows: Most rows of a table.
            has_images: Whether the bytes of image structs are read; otherwise they are null.
        """
        (path,) = unit.files
        where = self.root / path
        # Arrow asks for exactly the ranges that it needs, so fsspec need not read ahead.
        exact: dict[str, Any] = {} if where.is_local else {"cache_type": "none"}
        with where.fs.open(where.path, "rb", **exact) as file:
            with pq.ParquetFile(file) as parquet:
                meta, schema = parquet.metadata, parquet.schema_arrow
            columns = _columns_read(meta, schema, wanted.names, has_images=has_images)
            if not columns:  # no projection at all would read every column
                tables = iter([without_columns(unit.stop - unit.start)])
            else:
                sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
                groups, skipped = _covering(sizes, unit.start, unit.stop)
                # One row group at a time, as Arrow keeps in memory what it reads ahead.
                batches = (
                    batch
                    for group in groups
                    for batch in Reading.of(file, meta, group, columns, rows).batches(
                        file, meta, schema
                    )
                )
                tables = _cut_to(batches, unit.start - skipped, unit.stop - unit.start)
            in_path = [field for field in wanted if field.name not in schema.names]
            for table in tables:
                yield fit(_with_partitions(table, path, in_path), wanted)


def _columns_read(
    meta: pq.FileMetaData, schema: pa.Schema, wanted: Sequence[str], *, has_images: bool
) -> list[str]:
    """What is read of these columns of a file: their names, or the paths of leaves inside them."""
    columns: list[str] = []
    place = 0
    for field in schema:
        kept = leaves_kept(field.type)
        leaves = range(place, place + len(kept))
        place += len(kept)
        if field.name not in wanted:
            continue
        if has_images or all(kept):
            columns.append(field.name)
        else:
            read = itertools.compress(leaves, kept)
            columns += [meta.schema.column(leaf).path for leaf in read]
    return columns


def _fields_of_path(file: FileInfo, types: Mapping[str, pa.DataType]) -> list[pa.Field]:
    """The columns in a file's path, of these types where the values fit."""
    fields = {field.name: field for field in partition_fields([file.path])}
    for name, value in partition_values(file.path).items():
        if name in types:
            with contextlib.suppress(ValueError):
                partition_value(value, types[name])
                fields[name] = pa.field(name, types[name])
    return [*fields.values()]


def _with_partitions(table: pa.Table, path: str, fields: Sequence[pa.Field]) -> pa.Table:
    """The table with those columns whose values are in the path."""
    values = partition_values(path)
    for field in fields:
        if field.name in values:
            constant = pa.scalar(partition_value(values[field.name], field.type), field.type)
            table = table.append_column(field, pa.repeat(constant, table.num_rows))
    return table


def _footer(root: Location, file: FileInfo) -> tuple[pa.Schema, tuple[int, ...]]:
    """A file's schema and the rows of each of its row groups. Raises UserError."""
    where = root / file.path
    with user_errors(where, "parquet"):
        tail = pa.BufferReader(_read_tail(where, file.size))
        with pq.ParquetFile(tail) as parquet:
            meta = parquet.metadata
            sizes = tuple(meta.row_group(i).num_rows for i in range(meta.num_row_groups))
            return parquet.schema_arrow, sizes


def _read_tail(where: Location, size: int) -> bytes:
    """The end of a file with its whole footer, in one request, rarely two."""
    tail = _read_end(where, size, TAIL)
    footer = int.from_bytes(tail[-FOOTER_END : -FOOTER_END // 2], "little") + FOOTER_END
    # A file whose download stopped ends in any bytes, which would be any length.
    is_whole = footer <= len(tail) or not tail.endswith(MAGIC) or footer > size
    return tail if is_whole else _read_end(where, size, footer)


def _read_end(where: Location, size: int, length: int) -> bytes:
    start = max(0, size - length)
    return bytes(with_backoff(lambda: where.fs.cat_file(where.path, start=start, end=size)))


def _covering(sizes: Sequence[int], start: int, stop: int) -> tuple[list[int], int]:
    """The row groups of rows `[start, stop)`, and how many rows come before the first of them."""
    groups: list[int] = []
    skipped = begin = 0
    for group, rows in enumerate(sizes):
        if begin + rows <= start:
            skipped += rows
        elif begin < stop:
            groups.append(group)
        begin += rows
    return groups, skipped


def _cut_to(batches: Iterable[pa.RecordBatch], skip: int, rows: int) -> Iterator[pa.Table]:
    """Drop the first `skip` rows of a stream and end it after `rows`."""
    for batch in batches:
        piece = batch.slice(skip, rows)
        skip = max(0, skip - batch.num_rows)
        rows -= piece.num_rows
        if piece.num_rows:
            yield pa.Table.from_batches([piece])
        if not rows:
            return
