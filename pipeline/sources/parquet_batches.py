"""Decides how many rows of a parquet file are read at a time, so that their bytes are few.

A row group may hold gigabytes. What a batch of it takes is known beforehand from its metadata, with
one exception: of a value that a dictionary holds once, the file has only one copy. How long it may
be, the size of the dictionary tells. Columns with large ones, which no ordinary text has, are read
as dictionaries, which is slow for many values, and made plain a few rows at a time.

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
from pipeline.sources.source import READ_BYTES, READ_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_AHEAD = 64 * 2**20
"""Compressed bytes of a row group that are read ahead at most."""
BUFFER = 8 * 2**20
DICTIONARIES = frozenset({"PLAIN_DICTIONARY", "RLE_DICTIONARY"})
MOST_REPEATED = 4 * READ_BYTES
"""Bytes that a batch of one repeated value may take."""
HEADER = 32
DICTIONARY_PAGE = b"\x15\x04\x15"
"""How the header of a dictionary page begins: field 1, an integer, is 2; field 2 is an integer."""
CONTINUED = 0x80


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
    def of(
        file: Any, meta: pq.FileMetaData, group: int, columns: Sequence[str], most_rows: int
    ) -> Reading:
        """How to read batches of at most `most_rows` rows. Raises OSError.

        Args:
            file: The open file.
            meta: Its metadata.
            group: The row group.
            columns: Names of columns, or paths of fields in them.
            most_rows: Most rows of a batch.
        """
        about = meta.row_group(group)
        chunks = [about.column(i) for i in range(about.num_columns)]
        chunks = [chunk for chunk in chunks if _is_in(chunk.path_in_schema, columns)]
        plain = sum(chunk.total_uncompressed_size for chunk in chunks)
        longest = {chunk.path_in_schema: _longest_repeated(chunk, file) for chunk in chunks}
        repeated = MOST_REPEATED // max(1, sum(longest.values()))
        rows = min(most_rows, max(READ_ROWS, repeated))
        return Reading(
            group=group,
            columns=tuple(columns),
            rows=max(1, min(rows, READ_BYTES * about.num_rows // max(1, plain))),
            is_ahead=sum(chunk.total_compressed_size for chunk in chunks) <= MOST_AHEAD,
            dictionaries=tuple(
                path for path, size in longest.items() if READ_ROWS * size > MOST_REPEATED
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


def _longest_repeated(chunk: pq.ColumnChunkMetaData, file: Any) -> int:
    """Most bytes of a value that a chunk may have once and a batch many times.

    That is, of its dictionary. Lists are left alone.
    """
    if (
        chunk.physical_type != "BYTE_ARRAY"
        or ".list." in chunk.path_in_schema
        or DICTIONARIES.isdisjoint(chunk.encodings)
    ):
        return 0
    whole = int(chunk.total_uncompressed_size)
    if READ_ROWS * whole <= MOST_REPEATED or chunk.dictionary_page_offset is None:
        return whole
    file.seek(chunk.dictionary_page_offset)
    return min(whole, _page_size(file.read(HEADER)) or whole)


def _page_size(header: bytes) -> int | None:
    """The uncompressed size that a dictionary page's header gives, in Thrift's compact protocol.

    Its first two fields are 32-bit integers: the kind of page, and the size. Arrow does not tell.
    """
    if not header.startswith(DICTIONARY_PAGE):
        return None
    size = shift = 0
    for byte in header[len(DICTIONARY_PAGE) :]:
        size |= (byte & 0x7F) << shift
        if byte < CONTINUED:
            return size >> 1  # zigzag
        shift += 7
    return None


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
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        made = pa.list_ if pa.types.is_list(type_) else pa.large_list
        item = _original(type_.value_type, original.value_type)
        return made(original.value_field.with_type(item))
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
