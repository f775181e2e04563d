"""Decides how parquet files with one schema are read.

A unit is a range of row groups, or a slice of a row group that is larger than a unit. Only the row
groups and columns asked for are read. Keys in paths (`hive`) are columns at the end of the schema,
unless the file has a column of that name.

Columns pass through with their types. Binary ones (images, and large) are dropped unless
`keep_images` is set. In the `struct<bytes, path>` of Hugging Face datasets only `bytes` becomes
null, so that `path` still says which image it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.contract.errors import UserError
from pipeline.sources.columns import is_image_struct, without_binary, without_columns
from pipeline.sources.hive import partition_fields, partition_value, partition_values
from pipeline.sources.listing import Kind
from pipeline.sources.parquet_batches import Reading
from pipeline.sources.source import COPY_ROWS, READ_ROWS
from pipeline.sources.units import Cut, cut_row_groups
from pipeline.sources.unreadable import user_errors
from pipeline.storage.backoff import with_backoff
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.sources.listing import Listing
    from pipeline.storage.location import FileInfo, Location

TAIL = 64 * 1024
"""Bytes at a file's end that nearly always include its whole footer."""
FOOTER_END = 8
"""A parquet file ends with the footer's length (4 bytes, little endian) and `PAR1`."""
PLANNED = "the files planned before"


@dataclass(frozen=True)
class ParquetSource:
    """A `Source` over parquet files.

    Attributes:
        first: The file that `schema` was taken from, for messages.
    """

    root: Location
    schema: pa.Schema
    unit_rows: int
    keep_images: bool
    first: str = PLANNED
    kind = Kind.PARQUET

    @staticmethod
    def from_listing(
        listing: Listing, unit_rows: int, keep_images: bool, schema: pa.Schema | None
    ) -> ParquetSource:
        """The source with this schema, or else with that of the first file that has rows.

        Args:
            listing: The files.
            unit_rows: Most rows of a unit.
            keep_images: Whether binary columns pass through.
            schema: The columns as an earlier plan recorded them.

        Raises:
            UserError: The file cannot be read, or none has rows.
        """
        if schema is not None:
            return ParquetSource(listing.root, schema, unit_rows, keep_images)
        for file in listing.files:
            found, row_groups = _footer(listing.root, file)
            if sum(row_groups):
                partitions = partition_fields(file.path for file in listing.files)
                added = [field for field in partitions if field.name not in found.names]
                schema = pa.schema([*found, *added], metadata=found.metadata)
                return ParquetSource(listing.root, schema, unit_rows, keep_images, file.path)
        raise UserError(f"INPUT {listing.root / listing.files[0].path} has no rows")

    @property
    def passthrough_schema(self) -> pa.Schema:
        """All columns, without binary ones unless images are kept."""
        return self.schema if self.keep_images else without_binary(self.schema)

    def cut(self, files: Sequence[FileInfo]) -> Iterator[Cut]:
        """Cut the files; reads each one's footer."""
        for file, row_groups in zip(files, in_order(self._row_groups, files), strict=True):
            for start, stop in cut_row_groups(row_groups, self.unit_rows):
                yield Cut(files=(file.path,), start=start, stop=stop)

    def read(self, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield a unit's rows in tables of at most `READ_ROWS`."""
        for table in self._slices(unit, {name: name for name in columns}, READ_ROWS):
            yield table.select(list(columns))

    def passthrough(self, unit: Cut) -> Iterator[pa.Table]:
        """Yield a unit's rows; images that do not pass through are not read."""
        schema = self.passthrough_schema
        leaves = {field.name: field.name for field in schema}
        if not self.keep_images:
            leaves |= {f.name: f"{f.name}.path" for f in schema if is_image_struct(f.type)}
        rows = READ_ROWS if self.keep_images else COPY_ROWS
        for table in self._slices(unit, leaves, rows):
            yield _restore_columns(table, schema)

    def _row_groups(self, file: FileInfo) -> tuple[int, ...]:
        """Rows of each row group of a file, whose columns are checked unless it has no rows."""
        schema, row_groups = _footer(self.root, file)
        if sum(row_groups):
            self._check_columns(file, schema)
        return row_groups

    def _check_columns(self, file: FileInfo, schema: pa.Schema) -> None:
        ours = {field.name: field.type for field in self.schema}
        theirs = self._types_from_path(file) | {field.name: field.type for field in schema}
        for name in (*ours, *theirs):
            if ours.get(name) != theirs.get(name):
                raise UserError(
                    f"column '{name}' is {ours.get(name, 'absent')} in {self.first} and "
                    f"{theirs.get(name, 'absent')} in {file.path}; run them apart"
                )

    def _types_from_path(self, file: FileInfo) -> dict[str, pa.DataType]:
        """The types of a path's values: those of the schema where the values fit."""
        types = {field.name: field.type for field in partition_fields([file.path])}
        for name, value in partition_values(file.path).items():
            if name in self.schema.names:
                try:
                    partition_value(value, self.schema.field(name).type)
                except ValueError:
                    continue
                types[name] = self.schema.field(name).type
        return types

    def _slices(self, unit: Cut, leaves: dict[str, str], rows: int) -> Iterator[pa.Table]:
        """A unit's rows of some columns.

        Args:
            unit: A piece of one file.
            leaves: What to read of each column: its name, or the path of a field inside it.
            rows: Most rows of a table.
        """
        (path,) = unit.files
        where = self.root / path
        # Arrow asks for exactly the ranges that it needs, so fsspec need not read ahead.
        exact: dict[str, Any] = {} if where.is_local else {"cache_type": "none"}
        with where.fs.open(where.path, "rb", **exact) as file:
            with pq.ParquetFile(file) as parquet:
                meta, schema = parquet.metadata, parquet.schema_arrow
            columns = [leaf for name, leaf in leaves.items() if name in schema.names]
            outside = [name for name in leaves if name not in schema.names]
            if not columns:  # no projection at all would read every column
                tables = iter([without_columns(unit.stop - unit.start)])
            else:
                sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
                groups, skipped = _covering(sizes, unit.start, unit.stop)
                # One row group at a time, as Arrow keeps in memory what it reads ahead.
                batches = (
                    batch
                    for group in groups
                    for batch in Reading.of(meta, group, columns, rows).batches(file, meta, schema)
                )
                tables = _cut_to(batches, unit.start - skipped, unit.stop - unit.start)
            for table in tables:
                yield self._add_partitions(table, path, outside)

    def _add_partitions(self, table: pa.Table, path: str, names: Sequence[str]) -> pa.Table:
        values = partition_values(path)
        for name in names:
            if name not in values:
                raise OSError(f"{path} no longer has the column '{name}'")
            field = self.schema.field(name)
            constant = pa.scalar(partition_value(values[name], field.type), field.type)
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
    return tail if footer <= len(tail) else _read_end(where, size, footer)


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


def _restore_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a projected table its full schema, with nulls where bytes were not read."""
    if not schema.names:
        return without_columns(table.num_rows)
    columns = []
    for field in schema:
        column = table.column(field.name) if field.name in table.column_names else None
        if column is not None and column.type == field.type:
            columns.append(column)
        else:
            columns.append(_without_bytes(column, field.type, table.num_rows))
    return pa.table(columns, schema=schema)


def _without_bytes(column: pa.ChunkedArray | None, type_: pa.StructType, rows: int) -> pa.Array:
    if column is None:
        return pa.nulls(rows, type_)
    structs = column.combine_chunks()
    children = [
        structs.field("path") if field.name == "path" else pa.nulls(rows, field.type)
        for field in type_
    ]
    return pa.StructArray.from_arrays(children, fields=list(type_), mask=structs.is_null())
