"""A part as JSON lines: an object for each row, with all columns. UTF-8, as `values` says.

Its commit record lies `beside`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.output.formats.beside import find_record, keep_record
from pipeline.output.formats.part_format import wanted_columns
from pipeline.output.formats.values import plain_type, to_table, to_values
from pipeline.storage.location import stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from pipeline.output.formats.part_format import CommitRecord, IsWanted
    from pipeline.storage.location import Location


@dataclass(frozen=True)
class JsonLines:
    """A `PartFormat`."""

    suffix = ".jsonl"
    keeps_images = False

    def misfit(self, field: pa.Field) -> str | None:
        """Of a type that JSON has nothing for."""
        return None if plain_type(field.type) is not None else f"which is {field.type}"

    def write(
        self,
        draft: str,
        part: Location,
        schema: pa.Schema,
        tables: Iterable[pa.Table],
        record: CommitRecord,
    ) -> None:
        """See `PartFormat.write`."""
        with open(draft, "w", encoding="utf-8", newline="\n") as file:
            for table in tables:
                for row in to_values(table):
                    file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        keep_record(part, draft, schema, record)

    def read(self, part: Location, is_wanted: IsWanted) -> pa.Table:
        """See `PartFormat.read`."""
        return _read(part, is_wanted)[0]

    def read_whole(self, part: Location) -> tuple[pa.Table, CommitRecord]:
        """See `PartFormat.read_whole`."""
        return _read(part, lambda _: True)

    def read_schema(self, part: Location) -> pa.Schema:
        """See `PartFormat.read_schema`."""
        return find_record(part, part.read())[1]

    def read_record(self, part: Location) -> tuple[CommitRecord, str]:
        """See `PartFormat.read_record`; reads all of the part."""
        with part.open() as file:
            stamp, body = stamp_of(file), file.read()
        return find_record(part, body)[0], stamp


def _read(part: Location, is_wanted: IsWanted) -> tuple[pa.Table, CommitRecord]:
    body = part.read()
    record, schema = find_record(part, body)
    # Not `splitlines`: a text may have other line breaks, such as U+2028.
    lines = body.decode().split("\n")[:-1]
    return to_table(map(json.loads, lines), wanted_columns(schema, is_wanted)), record
