"""Decides how JSON lines are read: one object a line, in UTF-8, plain or gzipped (`.gz`).

The columns are those of the first 1,000 lines of the first file that has lines, with the types of
`json_types`. Other fields are ignored, absent ones are null. Every line that is not blank is a row;
the last needs no line feed. Line numbers in messages count rows, from 1.

A line that is not UTF-8 or not an object is a row too: its columns are null, and its `FAULT` names
the file and the line. A value that does not fit its column is null and costs the row nothing else;
the row has a `FAULT` where that column is read.

A unit is a slice of lines. In a plain file reading begins at its first byte; a gzipped file is
decompressed from its start for every unit, so gzipped files should be small.
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
from pipeline.sources.columns import FAULT, table_of
from pipeline.sources.json_types import MisfitError, convert, schema_of
from pipeline.sources.listing import Kind
from pipeline.sources.scanned import cut_by_offsets, open_from
from pipeline.sources.source import COPY_ROWS, by_bytes
from pipeline.sources.unreadable import user_errors
from pipeline.storage.contents import JSON_ARRAY, JSON_DOCUMENT, contents_of, recognised
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipeline.sources.listing import Listing
    from pipeline.sources.units import Cut
    from pipeline.storage.location import FileInfo, Location

SAMPLE = 1000
"""Lines that determine the columns."""
BEGIN = 2
"""Lines that tell a JSON array or document from JSON lines."""


@dataclass(frozen=True)
class JsonLines:
    """A `Source` over JSON lines."""

    root: Location
    schema: pa.Schema
    unit_rows: int
    kind = Kind.JSONL

    @staticmethod
    def from_listing(
        listing: Listing, unit_rows: int, keep_images: bool, schema: pa.Schema | None
    ) -> JsonLines:
        """The source with this schema, or else with that of the first file that has lines.

        Args:
            listing: The files.
            unit_rows: Most rows of a unit.
            keep_images: Not used: there are no binary columns.
            schema: The columns as an earlier plan recorded them.

        Raises:
            UserError: The file cannot be read or has no objects, or no file has lines.
        """
        if schema is not None:
            return JsonLines(listing.root, schema, unit_rows)
        for file in listing.files:
            where = listing.root / file.path
            with user_errors(where, _format_of(file.path)):
                lines = [line for _, line in itertools.islice(_lines(where), SAMPLE)]
            if lines:
                _check_is_lines(lines[:BEGIN], where)
                return JsonLines(listing.root, _schema(lines, where), unit_rows)
        raise UserError(f"INPUT {listing.root / listing.files[0].path} has no rows")

    @property
    def passthrough_schema(self) -> pa.Schema:
        """All columns, as JSON has no binary ones."""
        return self.schema

    def cut(self, files: Sequence[FileInfo]) -> Iterator[Cut]:
        """Cut the files; reads each one once."""
        for cuts in in_order(self._cut_file, files):
            yield from cuts

    def read(self, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield a unit's rows in tables of at most `COPY_ROWS`."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        for rows, faults in self._batches(unit, schema):
            table = table_of(rows, schema)
            if any(faults):
                table = table.append_column(FAULT, pa.array(faults, pa.string()))
            yield table

    def passthrough(self, unit: Cut) -> Iterator[pa.Table]:
        """Yield a unit's rows; a line, or a value, that cannot be read is null."""
        for rows, _ in self._batches(unit, self.schema):
            yield table_of(rows, self.schema)

    def _cut_file(self, file: FileInfo) -> list[Cut]:
        where = self.root / file.path
        with user_errors(where, _format_of(file.path)):
            lines = _lines(where)
            begin = [*itertools.islice(lines, BEGIN)]
            _check_is_lines([line for _, line in begin], where)
            is_packed = _is_packed(file.path)
            rows = ((0 if is_packed else at, 1) for at, _ in itertools.chain(begin, lines))
            return cut_by_offsets(file.path, rows, self.unit_rows)

    def _batches(
        self, unit: Cut, schema: pa.Schema
    ) -> Iterator[tuple[list[dict[str, Any]], list[str | None]]]:
        """Rows in order with these columns, and for each what of it cannot be read, or None."""
        (path,) = unit.files
        lines = _lines(self.root / path, unit.offset)
        if _is_packed(path):
            lines = itertools.islice(lines, unit.start, None)
        numbered = zip(range(unit.start + 1, unit.stop + 1), lines, strict=False)
        for batch in by_bytes(numbered, lambda line: len(line[1][1]), COPY_ROWS):
            read = [_row(line, schema, f"{path} line {number}") for number, (_, line) in batch]
            yield [row for row, _ in read], [fault for _, fault in read]


def _row(line: bytes, schema: pa.Schema, place: str) -> tuple[dict[str, Any], str | None]:
    """A line's values of these columns, and the first fault in them or None."""
    try:
        row = _parsed(line)
    except MisfitError as error:
        return {}, f"{place}: {error}"
    faults: list[str] = []
    values = {f.name: convert(row.get(f.name), f.type, f.name, faults) for f in schema}
    return values, f"{place}: {faults[0]}" if faults else None


def _format_of(path: str) -> str:
    return "gzip" if _is_packed(path) else "JSON lines"


def _is_packed(path: str) -> bool:
    return path.lower().endswith(".gz")


def _lines(where: Location, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, each with the byte at which it begins (after decompression).

    Raises:
        OSError: The file cannot be read or decompressed.
    """
    with open_from(where, offset) as file:
        lines: Iterable[bytes] = file
        if _is_packed(where.path):
            lines = cast("Iterable[bytes]", gzip.GzipFile(fileobj=file))
        try:
            for line in lines:
                if not line.isspace():
                    yield offset, line
                offset += len(line)
        except (EOFError, zlib.error) as error:
            raise OSError(f"{where.name} is cut off or damaged: {error}") from error


def _check_is_lines(begin: Sequence[bytes], where: Location) -> None:
    """Refuse a JSON array or document of many lines: each would be a row that cannot be read.

    Raises:
        UserError: The file begins like one.
    """
    if begin and begin[0].strip() in (b"[", b"{"):
        found = recognised(b"".join(begin))
        if found in (JSON_ARRAY, JSON_DOCUMENT):
            raise UserError(f"INPUT {where} is {found.what}, not JSON lines; {found.fix}")


def _schema(lines: Iterable[bytes], where: Location) -> pa.Schema:
    rows = []
    for line in lines:
        try:
            rows.append(_parsed(line))
        except MisfitError:
            continue
    if not rows:
        raise UserError(
            f"INPUT {where} has no JSON object in its first {SAMPLE:,} lines{_else(where)}"
        )
    try:
        schema = schema_of(rows)
    except RecursionError:
        raise UserError(f"INPUT {where} has objects nested too deep to be columns") from None
    if not schema.names:
        raise UserError(f"INPUT {where} has no fields in its first {SAMPLE:,} lines")
    return schema


def _else(where: Location) -> str:
    """What the file is instead of JSON lines; empty if that cannot be told."""
    found = contents_of(where)
    return "" if found is None else f": it is {found.what}; {found.fix}"


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
