"""A part as a parquet file. Its commit record lies in the file's key-value metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.location import stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pipeline.output.formats.part_format import CommitRecord, IsWanted
    from pipeline.storage.location import Location

METADATA_KEY = b"gemma3_batch"
ROW_GROUP_BYTES = 64 * 2**20
"""About the size of a row group, in memory."""


@dataclass(frozen=True)
class Parquet:
    """A `PartFormat`."""

    suffix = ".parquet"
    keeps_images = False

    def misfit(self, field: pa.Field) -> str | None:
        """None: inputs and results have no types but parquet's."""
        return None

    def write(
        self,
        draft: str,
        part: Location,
        schema: pa.Schema,
        tables: Iterable[pa.Table],
        record: CommitRecord,
    ) -> None:
        """See `PartFormat.write`."""
        metadata = {**(schema.metadata or {}), METADATA_KEY: json.dumps(record).encode()}
        with pq.ParquetWriter(draft, schema.with_metadata(metadata)) as writer:
            for table in _sized(tables):
                writer.write_table(table)

    def read(self, part: Location, is_wanted: IsWanted) -> pa.Table:
        """See `PartFormat.read`; reads these columns alone."""
        with part.open() as file, pq.ParquetFile(file) as parquet:
            return parquet.read([field.name for field in parquet.schema_arrow if is_wanted(field)])

    def read_whole(self, part: Location) -> tuple[pa.Table, CommitRecord]:
        """See `PartFormat.read_whole`."""
        rows = pq.read_table(pa.BufferReader(part.read()))
        return rows, _record(rows.schema.metadata)

    def read_schema(self, part: Location) -> pa.Schema:
        """See `PartFormat.read_schema`."""
        with part.open() as file, pq.ParquetFile(file) as parquet:
            return parquet.schema_arrow

    def read_record(self, part: Location) -> tuple[CommitRecord, str]:
        """See `PartFormat.read_record`; reads the footer alone."""
        with part.open() as file:
            return _record(pq.read_metadata(file).metadata), stamp_of(file)


def _record(metadata: Mapping[bytes, bytes]) -> CommitRecord:
    record: CommitRecord = json.loads(metadata[METADATA_KEY])
    return record


def _sized(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Small tables joined to ones of about `ROW_GROUP_BYTES`."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(piece.nbytes for piece in held) >= ROW_GROUP_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)
