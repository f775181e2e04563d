"""Decides how CSV and TSV are read: a header, then a row for each record, in UTF-8; also gzipped.

Every column is text, as the file has it: 007, 1.50 and 2024-01-02 stay what they are, and no file
that is added later can change a column's type. An empty field is null. The columns are those of all
files' headers, in the order in which they first occur; a file that lacks one has nulls there. Names
lose the white space around them; a column without a name (pandas' index) is called by its place,
`column_1`.

The delimiter of a `.csv` is a comma, semicolon, tab or bar, whichever the header has most of; that
of a `.tsv` is a tab. What a record is, `records` says. A record that cannot be parsed or has
another number of fields than the header is a row too: its columns are null, and its `FAULT` names
the file, the row (from 1, without the header) and the byte. A field that is not UTF-8 is null and
costs the row nothing else; the row has a `FAULT` where that column is read.

A unit is a slice of records. In a plain file reading begins at its first byte; a gzipped file is
decompressed from its start for every unit, so gzipped files should be small.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import itertools
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, cast

import pyarrow as pa

from pipeline.contract.errors import UserError
from pipeline.sources.columns import FAULT, without_columns
from pipeline.sources.listing import Kind
from pipeline.sources.records import Record, RecordError, delimiter_of, records
from pipeline.sources.scanned import cut_by_offsets, open_from
from pipeline.sources.source import COPY_ROWS, by_bytes
from pipeline.sources.unified import unified
from pipeline.sources.unreadable import not_of_kind, user_errors
from pipeline.storage.backoff import with_backoff
from pipeline.storage.contents import CSV, HEAD, JSON_ARRAY, TEXT, TSV, recognised
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.sources.listing import Listing
    from pipeline.sources.units import Cut
    from pipeline.storage.location import FileInfo, Location

TABULATED = (".tsv", ".tsv.gz")
LOOKS_RIGHT = (None, CSV, TSV, TEXT, JSON_ARRAY)
"""What the first bytes of a CSV file may look like; a bracket may begin a name."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Delimited:
    """A `Source` over CSV and TSV.

    Attributes:
        most_rows: Rows of a file beyond which it is not cut; None for all.
    """

    root: Location
    schema: pa.Schema
    unit_rows: int
    most_rows: int | None = None
    kind = Kind.CSV

    @staticmethod
    def from_listing(
        listing: Listing, unit_rows: int, keep_images: bool, schema: pa.Schema | None
    ) -> Delimited:
        """The source with this schema, or else with the columns of all headers.

        Args:
            listing: The files.
            unit_rows: Most rows of a unit.
            keep_images: Not used: there are no binary columns.
            schema: The columns as an earlier plan recorded them.

        Raises:
            UserError: A file cannot be read, or none has a header.
        """
        source = Delimited(listing.root, schema or pa.schema([]), unit_rows)
        if schema is not None:
            return source
        found = unified(source._columns_of(listing.files))
        if found is None:
            raise UserError(f"INPUT {listing.root / listing.files[0].path} has no rows")
        return source.with_schema(found)

    def with_schema(self, schema: pa.Schema) -> Delimited:
        """The same source with these columns."""
        return replace(self, schema=schema)

    def with_columns_of(self, files: Sequence[FileInfo]) -> Delimited:
        """The same source with the columns of these files too; reads their headers."""
        found = unified(self._columns_of(files), planned=self.schema)
        assert found is not None, "there is a planned schema"
        return self.with_schema(found)

    def _columns_of(self, files: Sequence[FileInfo]) -> Iterator[tuple[str, pa.Schema]]:
        """Each file that has rows, and its columns."""
        headers = in_order(lambda file: _header(self.root / file.path), files)
        for file, header in zip(files, headers, strict=True):
            if header.has_rows:
                yield file.path, pa.schema([(name, pa.string()) for name in header.names])

    @property
    def passthrough_schema(self) -> pa.Schema:
        """All columns: there are no binary ones."""
        return self.schema

    def cut(self, files: Sequence[FileInfo]) -> Iterator[Cut]:
        """Cut the files; reads each one once."""
        for cuts in in_order(self._cut_file, files):
            yield from cuts

    def read(self, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield a unit's rows in tables of at most `COPY_ROWS`."""
        for table, faults in self._tables(unit, columns):
            added = pa.array(faults, pa.string())
            yield table.append_column(FAULT, added) if any(faults) else table

    def passthrough(self, unit: Cut) -> Iterator[pa.Table]:
        """Yield a unit's rows; a record, or a field, that cannot be read is null."""
        for table, _ in self._tables(unit, self.schema.names):
            yield table

    def _cut_file(self, file: FileInfo) -> list[Cut]:
        where = self.root / file.path
        header = _header(where)
        with _naming(where), _opened(where) as opened:
            found = records(opened, header.delimiter)
            next(found, None)
            rows = ((0 if _is_packed(where) else record.offset, 1) for record in found)
            return cut_by_offsets(file.path, itertools.islice(rows, self.most_rows), self.unit_rows)

    def _tables(
        self, unit: Cut, columns: Sequence[str]
    ) -> Iterator[tuple[pa.Table, list[str | None]]]:
        """Rows in order with these columns, and for each what of it cannot be read, or None."""
        (path,) = unit.files
        header = _read_header(self.root / path)
        places = [header.names.index(name) if name in header.names else None for name in columns]
        numbered = zip(
            range(unit.start + 1, unit.stop + 1), self._records(unit, header), strict=False
        )
        for batch in by_bytes(numbered, lambda pair: _size(pair[1]), COPY_ROWS):
            rows = [_Row.of(record, len(header.names), places) for _, record in batch]
            faults = [
                f"{path} row {number} (byte {record.offset:,}): {row.fault}" if row.fault else None
                for (number, record), row in zip(batch, rows, strict=True)
            ]
            yield _table(rows, columns), faults

    def _records(self, unit: Cut, header: _Header) -> Iterator[Record]:
        where = self.root / unit.files[0]
        is_packed = _is_packed(where)
        with _opened(where, unit.offset) as opened:
            found = records(opened, header.delimiter, unit.offset)
            try:
                yield from itertools.islice(found, 1 + unit.start if is_packed else 0, None)
            except RecordError as error:
                raise OSError(f"{where.name} changed while it was read: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """What the first record of a file says.

    Attributes:
        names: The columns in their order; none where the file has no records.
        delimiter: What separates its fields.
        has_rows: Whether there is a record after it.
    """

    names: tuple[str, ...]
    delimiter: str
    has_rows: bool


@dataclass(frozen=True, slots=True)
class _Row:
    """A row's values of some columns.

    Attributes:
        values: In the columns' order.
        fault: What of it cannot be read; empty where all can.
    """

    values: list[str | None]
    fault: str

    @staticmethod
    def of(record: Record, width: int, places: Sequence[int | None]) -> _Row:
        """The values at these places (None: the file has no such column) of so many fields."""
        fields = record.fields
        if fields is None or len(fields) != width:
            count = len(fields or ())
            counted = f"it has {count} field{'s' * (count != 1)}, and the header {width}"
            fault = record.fault or counted
            return _Row([None] * len(places), fault)
        values = [fields[place] or None if place is not None else None for place in places]
        if all(value is None or value.isascii() for value in values):
            return _Row(values, "")
        wrong = [at for at, value in enumerate(values) if value and not _is_text(value)]
        for at in wrong:
            values[at] = None
        return _Row(values, "it is not UTF-8" if wrong else "")


def _is_text(value: str) -> bool:
    """Whether it was UTF-8 in the file."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _size(record: Record) -> int:
    return sum(map(len, record.fields or ()))


def _table(rows: Sequence[_Row], columns: Sequence[str]) -> pa.Table:
    if not columns:
        return without_columns(len(rows))
    values = zip(*(row.values for row in rows), strict=True)
    return pa.table([pa.array(v, pa.string()) for v in values], names=list(columns))


def _header(where: Location) -> _Header:
    """What the first record of a file says, while planning. Raises UserError."""
    with _naming(where):
        return _read_header(where)


def _read_header(where: Location) -> _Header:
    """The same. Raises OSError, RecordError, UserError."""
    head = _head(where)
    _check_is_text(head, where)
    begin = head.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")  # an empty line is no record
    line = begin.partition(b"\n")[0].partition(b"\r")[0]
    delimiter = "\t" if where.path.lower().endswith(TABULATED) else delimiter_of(line)
    found = _first_two(where, head, delimiter)
    names = _names(found[0], where) if found else ()
    return _Header(names=names, delimiter=delimiter, has_rows=len(found) > 1)


def _head(where: Location) -> bytes:
    """The first bytes of a file, decompressed. Raises OSError."""
    if not _is_packed(where):
        return bytes(with_backoff(lambda: where.fs.cat_file(where.path, start=0, end=HEAD)))
    with _opened(where) as opened:
        return opened.read(HEAD)


def _first_two(where: Location, head: bytes, delimiter: str) -> list[Record]:
    """The first two records, as far as there are so many; read on where `head` has not both."""
    with contextlib.suppress(RecordError):
        found = [*itertools.islice(records(io.BytesIO(head), delimiter), 2)]
        if len(found) > 1 or len(head) < HEAD:
            return found
    with _opened(where) as opened:
        return [*itertools.islice(records(opened, delimiter), 2)]


def _check_is_text(head: bytes, where: Location) -> None:
    """Refuse what is no table of text in UTF-8. Raises UserError."""
    if head.startswith(UTF_16):
        raise UserError(f"INPUT {where} is UTF-16; save it as UTF-8")
    if recognised(head[:HEAD]) not in LOOKS_RIGHT or b"\0" in head:
        raise UserError(not_of_kind(where, "CSV"))


def _names(header: Record, where: Location) -> tuple[str, ...]:
    """The columns' names. Raises UserError, RecordError."""
    if header.fields is None:
        raise RecordError(f"line {header.line}: {header.fault}")
    if not all(map(_is_text, header.fields)):
        raise UserError(f"INPUT {where} is not UTF-8; save it as UTF-8")
    named = (name.strip() or f"column_{place}" for place, name in enumerate(header.fields, 1))
    names = tuple(named)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"INPUT {where} has two columns '{twice}'; rename one of them")
    return names


def _is_packed(where: Location) -> bool:
    return where.path.lower().endswith(".gz")


@contextlib.contextmanager
def _opened(where: Location, offset: int = 0) -> Iterator[BinaryIO]:
    """A file's bytes from an offset on, decompressed. Raises OSError."""
    with open_from(where, offset) as file:
        try:
            yield cast("BinaryIO", gzip.GzipFile(fileobj=file) if _is_packed(where) else file)
        except (EOFError, zlib.error) as error:
            raise OSError(f"{where.name} is cut off or damaged: {error}") from error


@contextlib.contextmanager
def _naming(where: Location) -> Iterator[None]:
    """Turn the errors of reading a file into one for the user. Raises UserError."""
    with user_errors(where, "gzip" if _is_packed(where) else "CSV"):
        try:
            yield
        except RecordError as error:
            raise UserError(f"INPUT {where}, {error}; mend it, or take the file away") from None
