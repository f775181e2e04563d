"""Decides how many rows of a parquet file are read at a time, so that their bytes are few.

A row group may hold gigabytes. What a batch of it takes is known beforehand from its metadata, with
one exception: of a value that a dictionary holds once, the file has only one copy. Columns of which
many rows may be such a value are read as dictionaries, and made plain a few rows at a time.

Arrow reads ahead whole column chunks (`pre_buffer`), which is what an object store wants; of large
ones it reads `BUFFER` bytes at a time instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.sources.columns import is_binary, is_string
from pipeline.sources.source import READ_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_AHEAD = 64 * 2**20
"""Compressed bytes of a row group that are read ahead at most."""
BUFFER = 8 * 2**20
DICTIONARIES = frozenset({"PLAIN_DICTIONARY", "RLE_DICTIONARY"})
MOST_REPEATED = 4 * READ_BYTES
"""Bytes that a batch of one repeated value may take before it is read as a dictionary."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How some columns of a row group are read.

    Attributes:
        group: The row group.
        columns: Names of columns, or paths of fields in them.
        rows: Rows of a batch.
        is_ahead: Whether the row group is read ahead.
        dictionaries: Paths of columns that are read as dictionaries.
    """

    group: int
    columns: tuple[str, ...]
    rows: int
    is_ahead: bool
    dictionaries: tuple[str, ...]

    @staticmethod
    def of(meta: pq.FileMetaData, group: int, columns: Sequence[str], most_rows: int) -> Reading:
        """How to read batches of at most `most_rows` rows.

        Args:
            meta: The file's metadata.
            group: The row group.
            columns: Names of columns, or paths of fields in them.
            most_rows: Most rows of a batch.
        """
        about = meta.row_group(group)
        chunks = [about.column(i) for i in range(about.num_columns)]
        chunks = [chunk for chunk in chunks if _is_in(chunk.path_in_schema, columns)]
        plain = sum(chunk.total_uncompressed_size for chunk in chunks)
        rows = max(1, min(most_rows, READ_BYTES * about.num_rows // max(1, plain)))
        return Reading(
            group=group,
            columns=tuple(columns),
            rows=rows,
            is_ahead=sum(chunk.total_compressed_size for chunk in chunks) <= MOST_AHEAD,
            dictionaries=tuple(
                chunk.path_in_schema for chunk in chunks if _may_repeat(chunk, rows)
            ),
        )

    def batches(
        self, file: Any, meta: pq.FileMetaData, schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        """Yield the row group's rows. Raises OSError, pa.ArrowException.

        Args:
            file: The open file.
            meta: Its metadata.
            schema: Its columns.
        """
        with pq.ParquetFile(
            file,
            metadata=meta,
            pre_buffer=self.is_ahead,
            buffer_size=0 if self.is_ahead else BUFFER,
            read_dictionary=[*self.dictionaries],
        ) as parquet:
            for batch in parquet.iter_batches(
                self.rows, row_groups=[self.group], columns=[*self.columns]
            ):
                yield from _plain(batch, schema) if self.dictionaries else [batch]


def _is_in(path: str, columns: Sequence[str]) -> bool:
    return any(path == column or path.startswith(f"{column}.") for column in columns)


def _may_repeat(chunk: pq.ColumnChunkMetaData, rows: int) -> bool:
    """Whether a batch may take much more than its share of the chunk. Lists are left alone."""
    return (
        chunk.physical_type == "BYTE_ARRAY"
        and ".list." not in chunk.path_in_schema
        and not DICTIONARIES.isdisjoint(chunk.encodings)
        and rows * chunk.total_uncompressed_size > MOST_REPEATED
    )


def _plain(batch: pa.RecordBatch, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Pieces of a batch without the dictionaries that it was read with, each of few bytes."""
    longest = sum(_longest(column) for column in batch.columns)
    rows = max(1, READ_BYTES // max(1, longest))
    types = [_original(field.type, schema.field(field.name).type) for field in batch.schema]
    for start in range(0, batch.num_rows, rows):
        piece = batch.slice(start, rows)
        columns = [column.cast(type_) for column, type_ in zip(piece.columns, types, strict=True)]
        yield pa.record_batch(columns, names=batch.schema.names)


def _original(type_: pa.DataType, original: pa.DataType) -> pa.DataType:
    """The original type, of a struct with those fields only that were read."""
    if not pa.types.is_struct(type_):
        return original
    return pa.struct(
        [pa.field(f.name, _original(f.type, original.field(f.name).type)) for f in type_]
    )


def _longest(array: pa.Array) -> int:
    """Most bytes that one row's values in dictionaries have."""
    if pa.types.is_dictionary(array.type):
        if not is_binary(array.type.value_type) and not is_string(array.type.value_type):
            return 0
        return int(pc.max(pc.binary_length(array.dictionary)).as_py() or 0)
    if pa.types.is_struct(array.type):
        return sum(_longest(child) for child in array.flatten())
    return 0
