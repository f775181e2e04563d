"""Decides how JSON lines are read: one object a line, in UTF-8, plain or gzipped (`.gz`).

The columns are those of the first 1,000 lines of every file, with the types of `json_types`. Fields
that occur only later are ignored, absent ones are null. Every line that is not blank is a row; the
last needs no line feed. Line numbers in messages count rows, from 1.

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
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from pipeline.contract.errors import UserError
from pipeline.sources.columns import FAULT, table_of
from pipeline.sources.json_types import JSON, MisfitError, Types, columns_of, convert, types_of
from pipeline.sources.listing import Kind
from pipeline.sources.scanned import cut_by_offsets, open_from
from pipeline.sources.source import COPY_ROWS, by_bytes
from pipeline.sources.unified import unified
from pipeline.sources.unreadable import user_errors
from pipeline.storage.contents import JSON_ARRAY, JSON_DOCUMENT, contents_of, recognised
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pipeline.sources.listing import Listing
    from pipeline.sources.units import Cut
    from pipeline.storage.location import FileInfo, Location

SAMPLE = 1000
"""Lines of a file that determine its columns."""
BEGIN = 2
"""Lines that tell a JSON array or document from JSON lines."""


@dataclass(frozen=True)
class JsonLines:
    """A `Source` over JSON lines.

    Attributes:
        most_rows: Rows of a file beyond which it is not cut; None for all.
    """

    root: Location
    schema: pa.Schema
    unit_rows: int
    most_rows: int | None = None
    kind = Kind.JSONL

    @staticmethod
    def from_listing(
        listing: Listing, unit_rows: int, keep_images: bool, schema: pa.Schema | None
    ) -> JsonLines:
        """The source with this schema, or else with that of all files that have lines.

        Args:
            listing: The files.
            unit_rows: Most rows of a unit.
            keep_images: Not used: there are no binary columns.
            schema: The columns as an earlier plan recorded them.

        Raises:
            UserError: A file cannot be read, none has objects, or their columns cannot be united.
        """
        source = JsonLines(listing.root, schema or pa.schema([]), unit_rows)
        if schema is not None:
            return source
        faults: list[UserError] = []
        found = unified(source._columns_of(listing.files, None, faults), rules=JSON)
        if not found:
            lacking = "rows" if found is None else f"fields in its first {SAMPLE:,} lines"
            none = UserError(f"INPUT {listing.root / listing.files[0].path} has no {lacking}")
            raise next(iter(faults), none)
        return source.with_schema(found)

    def with_schema(self, schema: pa.Schema) -> JsonLines:
        """The same source with these columns."""
        return replace(self, schema=schema)

    def with_columns_of(self, files: Sequence[FileInfo]) -> JsonLines:
        """The same source with the columns of these files too; reads how each begins."""
        found = unified(self._columns_of(files, self.schema, []), planned=self.schema, rules=JSON)
        assert found is not None, "there is a planned schema"
        return self.with_schema(found)

    @property
    def passthrough_schema(self) -> pa.Schema:
        """All columns, as JSON has no binary ones."""
        return self.schema

    def cut(self, files: Sequence[FileInfo]) -> Iterator[Cut]:
        """Cut the files; reads each one once, to its end or its last row that is cut."""
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

    def _columns_of(
        self, files: Sequence[FileInfo], planned: pa.Schema | None, faults: list[UserError]
    ) -> Iterator[tuple[str, pa.Schema]]:
        """Each file that has objects, and its columns; the others add to the faults."""
        for file, types in zip(files, in_order(self._types_in, files), strict=True):
            if isinstance(types, UserError):
                faults.append(types)
            elif types is not None:
                _check_names(types, file.path)
                yield file.path, columns_of(types, planned)

    def _types_in(self, file: FileInfo) -> Types | UserError | None:
        """The types in a file's first lines, or why there are none; None where it has no lines."""
        where = self.root / file.path
        with user_errors(where, _format_of(file.path)):
            lines = [line for _, line in itertools.islice(_lines(where), SAMPLE)]
            _check_is_lines(lines[:BEGIN], where)
        return _types(lines, where) if lines else None

    def _cut_file(self, file: FileInfo) -> list[Cut]:
        where = self.root / file.path
        with user_errors(where, _format_of(file.path)):
            lines = _lines(where)
            begin = [*itertools.islice(lines, BEGIN)]
            _check_is_lines([line for _, line in begin], where)
            is_packed = _is_packed(file.path)
            rows = ((0 if is_packed else at, 1) for at, _ in itertools.chain(begin, lines))
            return cut_by_offsets(file.path, itertools.islice(rows, self.most_rows), self.unit_rows)

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


def _types(lines: Iterable[bytes], where: Location) -> Types | UserError:
    rows = []
    for line in lines:
        try:
            rows.append(_parsed(line))
        except MisfitError:
            continue
    if not rows:
        return UserError(
            f"INPUT {where} has no JSON object in its first {SAMPLE:,} lines{_else(where)}"
        )
    try:
        types = types_of(rows)
    except RecursionError:
        return UserError(f"INPUT {where} has objects nested too deep to be columns")
    return types or UserError(f"INPUT {where} has no fields in its first {SAMPLE:,} lines")


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


def _check_names(types: Types, path: str) -> None:
    """Raises UserError where a column's name cannot be one."""
    for name in types:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"INPUT {path}: the column {name!a} has half of a character (a lone "
                "surrogate) in its name; rename it"
            ) from None
