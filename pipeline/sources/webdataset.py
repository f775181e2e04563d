"""Decides how tar shards in WebDataset format are read: `000017.jpg`, `000017.txt`, `000017.json`.

`samples` says which members are a row. Its columns:

    __key__   string   the sample's key, and which of its images
    image     binary   the image
    txt  caption  cls  json, also after a dot (`en.txt`)      string, as UTF-8
    any other suffix                                          binary

The columns are those of the first 100 samples of every shard; suffixes that occur only later are
ignored, absent ones null. Folders, links and names without a dot, or with nothing before it, are
skipped.

A text that is not UTF-8 is null; where its column is read, the row has a `FAULT`.

A unit is a slice of samples, read from the header of its first member on, one member at a time. In
a shard in which a key occurs again after another one, members that lie apart are one sample too:
each of its units reads all headers of the shard first, and has the offset `BY_KEY`. Members in
different shards are never one sample.

A shard must end in a block of zeros, as tar files do; otherwise one that was truncated between two
members would look complete.
"""

from __future__ import annotations

import itertools
import tarfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.contract.errors import UserError
from pipeline.sources.columns import FAULT, is_string, table_of, without_binary
from pipeline.sources.listing import Kind
from pipeline.sources.samples import (
    IMAGE,
    Member,
    Sample,
    SampleRow,
    key_and_suffix,
    samples_by_key,
    samples_in_order,
)
from pipeline.sources.scanned import cut_by_offsets, open_from
from pipeline.sources.source import COPY_ROWS, READ_ROWS, by_bytes, size_of
from pipeline.sources.unified import unified
from pipeline.sources.units import Cut, cut_evenly
from pipeline.sources.unreadable import user_errors
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.sources.listing import Listing
    from pipeline.storage.location import FileInfo, Location

SAMPLED = 100
"""Samples of a shard that determine its columns."""
KEY = "__key__"
TEXTS = ("txt", "caption", "cls", "json")
BY_KEY = -1
"""The offset of a unit that is read by key."""
GROUPED = {b"gemma3_batch_samples": b"2"}
"""Marks the columns of a plan whose rows are those of `samples`; without it, of `earlier_row`."""
EMPTY = pa.schema([], metadata=GROUPED)
"""The columns before any shard was looked at."""


_Values = tuple[dict[str, object], str | None]
"""A row's values, and its fault or None."""


@dataclass(frozen=True)
class WebDataset:
    """A `Source` over tar shards."""

    root: Location
    schema: pa.Schema
    unit_rows: int
    keep_images: bool
    kind = Kind.WEBDATASET

    @staticmethod
    def from_listing(
        listing: Listing, unit_rows: int, keep_images: bool, schema: pa.Schema | None
    ) -> WebDataset:
        """The source with this schema, or else with that of all shards that have samples.

        Args:
            listing: The shards.
            unit_rows: Most rows of a unit.
            keep_images: Whether binary columns pass through.
            schema: The columns as an earlier plan recorded them.

        Raises:
            UserError: A shard cannot be read, or none has samples.
        """
        source = WebDataset(listing.root, schema or EMPTY, unit_rows, keep_images)
        if schema is not None:
            return source
        found = unified(source._columns_of(listing.files))
        if found is None:
            raise UserError(f"INPUT {listing.root / listing.files[0].path} has no rows")
        return source.with_schema(found)

    def with_schema(self, schema: pa.Schema) -> WebDataset:
        """The same source with these columns."""
        return replace(self, schema=schema)

    def with_columns_of(self, files: Sequence[FileInfo]) -> WebDataset:
        """The same source with the columns of these shards too; reads how each begins.

        The columns of a plan of an earlier version stay what they are.
        """
        if not self._is_grouped:
            return self
        found = unified(self._columns_of(files), planned=self.schema)
        assert found is not None, "there is a planned schema"
        return self.with_schema(found)

    @property
    def passthrough_schema(self) -> pa.Schema:
        """The key and the texts, and binary columns where images are kept."""
        schema = self.schema.remove_metadata()
        return schema if self.keep_images else without_binary(schema)

    def cut(self, files: Sequence[FileInfo]) -> Iterator[Cut]:
        """Cut the shards; reads each one once, and one that is read by key twice."""
        for cuts in in_order(self._cut_shard, files):
            yield from cuts

    def read(self, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield a unit's rows in tables of at most `READ_ROWS`; only these columns are read."""
        for table, faults in self._tables(unit, columns, READ_ROWS):
            has_faults = any(fault is not None for fault in faults)
            added = pa.array(faults, pa.string())
            yield table.append_column(FAULT, added) if has_faults else table

    def passthrough(self, unit: Cut) -> Iterator[pa.Table]:
        """Yield a unit's rows; images that do not pass through are not read."""
        rows = READ_ROWS if self.keep_images else COPY_ROWS
        for table, _ in self._tables(unit, self.passthrough_schema.names, rows):
            yield table

    @property
    def _is_grouped(self) -> bool:
        return not GROUPED.items() - (self.schema.metadata or {}).items()

    def _columns_of(self, files: Sequence[FileInfo]) -> Iterator[tuple[str, pa.Schema]]:
        """Each shard that has samples, and its columns."""
        for file, schema in zip(files, in_order(self._schema_of, files), strict=True):
            if schema is not None:
                yield file.path, schema

    def _schema_of(self, file: FileInfo) -> pa.Schema | None:
        """A shard's columns; None where it has no samples."""
        where = self.root / file.path
        with user_errors(where, "tar"), _Shard(where) as shard:
            rows = [row for sample in _sampled(shard) for row in sample.rows()]
        return _schema(rows) if rows else None

    def _cut_shard(self, file: FileInfo) -> list[Cut]:
        where = self.root / file.path
        with user_errors(where, "tar"):
            with _Shard(where) as shard:
                keys = _Keys()
                pieces = (
                    (sample.offset, len(self._rows_of(sample)))
                    for sample in keys.noting(samples_in_order(shard.members()))
                )
                cuts = cut_by_offsets(file.path, pieces, self.unit_rows)
            if not self._is_grouped or not keys.are_apart:
                return cuts
            with _Shard(where) as shard:
                rows = sum(len(sample.rows()) for sample in samples_by_key(shard.places()))
        return [
            Cut(files=(file.path,), start=start, stop=stop, offset=BY_KEY)
            for start, stop in cut_evenly(0, rows, self.unit_rows)
        ]

    def _rows_of(self, sample: Sample[Member]) -> list[SampleRow[Member]]:
        return sample.rows() if self._is_grouped else [sample.earlier_row()]

    def _tables(
        self, unit: Cut, columns: Sequence[str], rows: int
    ) -> Iterator[tuple[pa.Table, list[str | None]]]:
        """Rows in order, and for each its fault or None."""
        (path,) = unit.files
        schema = pa.schema([self.schema.field(name) for name in columns])
        with _Shard(self.root / path, max(0, unit.offset)) as shard:
            read = self._read_by_key(shard, unit, schema)
            if unit.offset != BY_KEY:
                read = self._read_in_order(shard, unit, schema)
            for batch in by_bytes(read, lambda row: size_of(row[0]), rows):
                yield table_of([row for row, _ in batch], schema), [fault for _, fault in batch]

    def _read_in_order(self, shard: _Shard, unit: Cut, schema: pa.Schema) -> Iterator[_Values]:
        samples = samples_in_order(shard.members())
        rows = (row for sample in samples for row in self._rows_of(sample))
        for row in itertools.islice(rows, unit.stop - unit.start):
            yield shard.values(row, schema)

    def _read_by_key(self, shard: _Shard, unit: Cut, schema: pa.Schema) -> Iterator[_Values]:
        samples = samples_by_key(shard.places())
        rows = (row for sample in samples for row in sample.rows())
        for row in itertools.islice(rows, unit.start, unit.stop):
            found = {
                name: shard.at(row.members[name]) for name in schema.names if name in row.members
            }
            yield shard.values(SampleRow(row.key, found), schema)


class _Keys:
    """Notes whether a key occurs again after another one. Memory holds a hash of each."""

    def __init__(self) -> None:
        self.are_apart = False
        self._seen: set[int] = set()
        self._last: str | None = None

    def noting(self, samples: Iterable[Sample[Member]]) -> Iterator[Sample[Member]]:
        """The samples, as they are."""
        for sample in samples:
            if sample.key != self._last:
                self.are_apart |= hash(sample.key) in self._seen
                self._seen.add(hash(sample.key))
                self._last = sample.key
            yield sample


class _Shard:
    """An open tar file, read from a member's header on.

    Raises:
        OSError: It cannot be read, is not a tar file, or is truncated.
    """

    def __init__(self, where: Location, offset: int = 0) -> None:
        self._where = where
        self._file = open_from(where, offset)
        try:
            self._tar = tarfile.open(fileobj=self._file, mode="r:")  # noqa: SIM115
        except tarfile.TarError as error:
            self._file.close()
            raise OSError(f"{where} is not a tar file: {error}") from error

    def __enter__(self) -> _Shard:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def members(self) -> Iterator[tuple[str, str, int, tarfile.TarInfo]]:
        """Key, suffix and byte of each sample's member from here on, in order."""
        for member in self._members():
            key, suffix = key_and_suffix(member.name)
            if key and member.isreg():
                yield key, suffix, member.offset, member

    def places(self) -> Iterator[tuple[str, str, int, int]]:
        """The same, with bytes in place of members, which take a tenth of the memory."""
        for key, suffix, offset, _ in self.members():
            yield key, suffix, offset, offset

    def at(self, offset: int) -> tarfile.TarInfo:
        """The member whose header begins at a byte. Raises OSError."""
        self._file.seek(offset)
        try:
            return tarfile.TarInfo.fromtarfile(self._tar)
        except tarfile.TarError as error:
            raise OSError(f"{self._where} changed while it was read: {error}") from error

    def values(self, row: SampleRow[tarfile.TarInfo], schema: pa.Schema) -> _Values:
        """A row's values of these columns, and its fault or None."""
        values: dict[str, object] = {KEY: row.key}
        fault = None
        for name in schema.names:
            member = row.members.get(name)
            if member is None or name == KEY:
                continue
            body = self._read(member)
            try:
                values[name] = body.decode() if is_string(schema.field(name).type) else body
            except UnicodeDecodeError:
                fault = f"{self._where.name} sample {row.key}: '{name}' is not UTF-8"
        return values, fault

    def _members(self) -> Iterator[tarfile.TarInfo]:
        try:
            while (member := self._tar.next()) is not None:
                # Otherwise it keeps every header of the shard (cpython issue 102120).
                self._tar.members.clear()  # type: ignore[attr-defined]
                yield member
        except tarfile.TarError as error:
            raise OSError(f"{self._where} is cut off or damaged: {error}") from error
        self._file.seek(self._tar.offset)
        if self._file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise OSError(f"{self._where} is cut off or damaged: it has no end")

    def _read(self, member: tarfile.TarInfo) -> bytes:
        opened = self._tar.extractfile(member)
        assert opened is not None, "only files are members of a sample"
        try:
            return opened.read()
        except tarfile.TarError as error:
            raise OSError(f"{self._where} is cut off: {error}") from error


def _sampled(shard: _Shard) -> Iterator[Sample[tarfile.TarInfo]]:
    """The first samples; all, where those have nothing in common but one suffix.

    A shard may have all images first and then all texts.
    """
    suffixes: set[str] = set()
    for number, sample in enumerate(samples_in_order(shard.members())):
        if number >= SAMPLED and len(suffixes) > 1:
            return
        if number < SAMPLED or not suffixes >= sample.members.keys():
            yield sample
        suffixes.update(sample.members)


def _schema(rows: Iterable[SampleRow[tarfile.TarInfo]]) -> pa.Schema:
    names = dict.fromkeys(name for row in rows for name in row.members)
    others = [name for name in names if name not in (KEY, IMAGE)]
    types = {name: pa.string() if _is_text(name) else pa.binary() for name in others}
    fields = [(KEY, pa.string()), (IMAGE, pa.binary()), *types.items()]
    return pa.schema(fields, metadata=GROUPED)


def _is_text(suffix: str) -> bool:
    return suffix.rpartition(".")[2] in TEXTS
