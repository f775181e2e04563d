"""A part as JSON lines: an object for each row, with all columns. UTF-8, as `values` says.

Its commit record lies `beside`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.output.formats.beside import RecordBeside, keep_record
from pipeline.output.formats.values import plain_type, to_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

    from pipeline.output.formats.part_format import CommitRecord
    from pipeline.output.formats.values import Values
    from pipeline.storage.location import Location


@dataclass(frozen=True)
class JsonLines(RecordBeside):
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

    def rows(self, body: bytes, wanted: pa.Schema) -> Iterator[Values]:
        """See `RecordBeside.rows`."""
        # Not `splitlines`: a text may have other line breaks, such as U+2028.
        return map(json.loads, body.decode().split("\n")[:-1])
