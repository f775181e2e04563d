"""JSON lines: one object a line, in UTF-8, plain or gzipped (`.gz`).

The columns are those of the first 1,000 lines of the first file that has lines, with the types of
`json_types`. Fields beyond them are ignored, absent ones are null. A line is a row unless it is
blank; the last one needs no line feed. Line numbers in messages count rows, from 1.

A line that is not UTF-8, not an object, or does not fit the columns is a row all the same: its
`FAULT` names file and line, and its columns are null.

A unit is a slice of lines. Of a plain file it is read from its own first byte on; of a gzipped one
everything before it is unpacked again, so gzipped files are best small.
"""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from pipeline.contract.errors import UserError
from pipeline.sources.broken import told_as_user_error
from pipeline.sources.columns import FAULT, bare
from pipeline.sources.json_types import MisfitError, fitted, schema_of
from pipeline.sources.listing import Kind
from pipeline.sources.scanned import cut_by_offsets, open_from
from pipeline.sources.source import COPY_ROWS
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipeline.sources.listing import Listing
    from pipeline.sources.units import Cut
    from pipeline.storage.location import FileInfo, Location

SAMPLE = 1000
"""Lines that decide the columns."""


@dataclass(frozen=True)
class JsonLines:
    """See the module's docstring; the members are `Source`'s."""

    root: Location
    schema: pa.Schema
    unit_rows: int
    kind = Kind.JSONL

    @staticmethod
    def over(listing: Listing, unit_rows: int, schema: pa.Schema | None) -> JsonLines:
        """With the schema recorded, or else of the first file with lines. Raises UserError."""
        if schema is not None:
            return JsonLines(listing.root, schema, unit_rows)
        for file in listing.files:
            with told_as_user_error(listing.root / file.path, _name_of(file.path)):
                lines = [*itertools.islice(_lines(listing.root, file.path), SAMPLE)]
            if lines:
                return JsonLines(listing.root, _schema(lines, listing.root / file.path), unit_rows)
        raise UserError(f"INPUT {listing.root / listing.files[0].path} has no rows")

    @property
    def passthrough_schema(self) -> pa.Schema:
        """All columns: JSON has no binary ones."""
        return self.schema

    def cut(self, files: Sequence[FileInfo]) -> Iterator[Cut]:
        """Reads each file once, to find its lines."""
        for cuts in in_order(self._cut_file, files):
            yield from cuts

    def read(self, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Tables of at most `COPY_ROWS` rows."""
        for rows, faults in self._batches(unit):
            table = self._table(rows, columns)
            if any(faults):
                table = table.append_column(FAULT, pa.array(faults, pa.string()))
            yield table

    def passthrough(self, unit: Cut) -> Iterator[pa.Table]:
        """A line that cannot be read is a row of nulls."""
        for rows, _ in self._batches(unit):
            yield self._table(rows, self.schema.names)

    def _cut_file(self, file: FileInfo) -> list[Cut]:
        with told_as_user_error(self.root / file.path, _name_of(file.path)):
            offsets = (offset for offset, _ in _lines(self.root, file.path))
            if _is_packed(file.path):
                offsets = (0 for _ in offsets)
            return cut_by_offsets(file.path, offsets, self.unit_rows)

    def _batches(self, unit: Cut) -> Iterator[tuple[list[dict[str, Any]], list[str | None]]]:
        """Rows in order, and what is wrong with each, whatever the columns asked for."""
        (path,) = unit.files
        lines = _lines(self.root, path, unit.offset)
        if _is_packed(path):
            lines = itertools.islice(lines, unit.start, None)
        numbered = zip(range(unit.start + 1, unit.stop + 1), lines, strict=False)
        while batch := [*itertools.islice(numbered, COPY_ROWS)]:
            read = [self._row(line, f"{path} line {number}") for number, (_, line) in batch]
            yield [row for row, _ in read], [fault for _, fault in read]

    def _row(self, line: bytes, place: str) -> tuple[dict[str, Any], str | None]:
        """A line's values and None, or no values and what is wrong."""
        try:
            row = _parsed(line)
            return {f.name: fitted(row.get(f.name), f.type, f.name) for f in self.schema}, None
        except MisfitError as error:
            return {}, f"{place}: {error}"

    def _table(self, rows: list[dict[str, Any]], columns: Sequence[str]) -> pa.Table:
        if not columns:
            return bare(len(rows))
        schema = pa.schema([self.schema.field(name) for name in columns])
        return pa.Table.from_pylist(rows, schema=schema)


def _name_of(path: str) -> str:
    return "gzip" if _is_packed(path) else "JSON lines"


def _is_packed(path: str) -> bool:
    return path.lower().endswith(".gz")


def _lines(root: Location, path: str, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The lines from a byte on that are not blank, and where each begins (unpacked).

    Raises:
        OSError: The file cannot be read, or not be unpacked.
    """
    with open_from(root / path, offset) as file:
        lines: Iterable[bytes] = file
        if _is_packed(path):
            lines = cast("Iterable[bytes]", gzip.GzipFile(fileobj=file))
        try:
            for line in lines:
                if not line.isspace():
                    yield offset, line
                offset += len(line)
        except (EOFError, zlib.error) as error:
            raise OSError(f"{path} is cut off or damaged: {error}") from error


def _schema(lines: Iterable[tuple[int, bytes]], where: Location) -> pa.Schema:
    rows = []
    for _, line in lines:
        try:
            rows.append(_parsed(line))
        except MisfitError:
            continue
    if not rows:
        raise UserError(f"INPUT {where} has no JSON object in its first {SAMPLE:,} lines")
    try:
        schema = schema_of(rows)
    except RecursionError:
        raise UserError(f"INPUT {where} has objects nested too deep to be columns") from None
    if not schema.names:
        raise UserError(f"INPUT {where} has no fields in its first {SAMPLE:,} lines")
    return schema


def _parsed(line: bytes) -> Mapping[str, Any]:
    """The object of a line. Raises MisfitError."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise MisfitError("it is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise MisfitError(f"it is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise MisfitError("it is JSON, but not an object")
    return row
