r"""A part as CSV after RFC 4180, in UTF-8, with a header; texts may have line breaks.

Texts are quoted and nulls are empty, so the two differ for readers that look. Lists and objects are
JSON (`values`), quoted as well. Binary columns are refused: no reader of CSV wants megabytes in a
cell. The commit record lies `beside`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.output.formats.beside import RecordBeside, keep_record
from pipeline.output.formats.values import plain_schema, plain_type, to_values
from pipeline.sources.columns import holds, holds_binary, is_string

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.output.formats.part_format import CommitRecord
    from pipeline.output.formats.values import Values
    from pipeline.storage.location import Location

END = "\r\n"
LONGEST = 2**31 - 1
"""Bytes of a block that pyarrow reads, at most."""


@dataclass(frozen=True)
class Csv(RecordBeside):
    """A `PartFormat`."""

    suffix = ".csv"
    keeps_images = False

    def misfit(self, field: pa.Field) -> str | None:
        """Binary, or of a type that there is no text for."""
        if holds_binary(field.type):
            return f"which is {field.type}; leave out keep_images"
        is_held = plain_type(field.type) is not None and not holds(
            field.type, pa.types.is_fixed_size_binary
        )
        return None if is_held else f"which is {field.type}"

    def write(
        self,
        draft: str,
        part: Location,
        schema: pa.Schema,
        tables: Iterable[pa.Table],
        record: CommitRecord,
    ) -> None:
        """See `PartFormat.write`."""
        with open(draft, "w", encoding="utf-8", newline="") as file:
            file.write(",".join(map(_quoted, schema.names)) + END)
            for table in tables:
                for row in to_values(table):
                    file.write(",".join(map(_cell, row.values())) + END)
        keep_record(part, draft, schema, record)

    def rows(self, body: bytes, wanted: pa.Schema) -> Iterator[Values]:
        """See `RecordBeside.rows`."""
        from pyarrow import csv

        columns = wanted.names
        cells = csv.read_csv(
            pa.BufferReader(body),
            # A row must not be longer than a block.
            read_options=csv.ReadOptions(block_size=min(max(len(body), 1), LONGEST)),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                include_columns=columns,
                column_types=dict.fromkeys(columns, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        types = {field.name: field.type for field in plain_schema(wanted)}
        for row in cells.to_pylist() if columns else ():
            yield {name: _value(text, types[name]) for name, text in row.items()}


def _cell(value: Any) -> str:
    """A JSON value as a cell. (Python's writer does not tell null from empty text before 3.12.)."""
    if value is None:
        return ""
    if isinstance(value, str):
        return _quoted(value)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _quoted(text) if isinstance(value, (list, dict)) else text


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _value(text: str | None, type_: pa.DataType) -> Any:
    return text if text is None or is_string(type_) else json.loads(text)
