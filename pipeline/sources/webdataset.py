"""Decides how tar shards in WebDataset format are read: `000017.jpg`, `000017.txt`, `000017.json`.

Consecutive members whose paths are equal up to the first dot of the name are one sample, a row of:

    __key__   string   that part of the path
    image     binary   the first member with an image's suffix (`listing`)
    txt  caption  cls  json      string, as UTF-8
    any other suffix             binary

The columns are the suffixes of the first 100 samples of the first shard; other suffixes are
ignored, absent ones null. A suffix that occurs again begins a new sample. Folders, links and names
without a dot, or with nothing before it, are skipped.

A text that is not UTF-8 is null; where its column is read, the row has a `FAULT`.

A unit is a slice of samples, read from the header of its first member on, one member at a time. A
shard must end in a block of zeros, as tar files do; otherwise one that was truncated between two
members would look complete.
"""

from __future__ import annotations

import itertools
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.contract.errors import UserError
from pipeline.sources.columns import FAULT, is_string, table_of, without_binary
from pipeline.sources.listing import IMAGE_SUFFIXES, Kind
from pipeline.sources.scanned import cut_by_offsets, open_from
from pipeline.sources.source import COPY_ROWS, READ_ROWS
from pipeline.sources.unreadable import user_errors
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.sources.listing import Listing
    from pipeline.sources.units import Cut
    from pipeline.storage.location import FileInfo, Location

SAMPLED = 100
"""Samples that determine the columns."""
KEY = "__key__"
IMAGE = "image"
TEXTS = ("txt", "caption", "cls", "json")


@dataclass
class _Sample:
    """The members of one row, by suffix; `offset` is the byte of the first one's header."""

    key: str
    offset: int
    members: dict[str, tarfile.TarInfo] = field(default_factory=dict)

    def member(self, column: str) -> tarfile.TarInfo | None:
        """The member that a column is read from."""
        if column == IMAGE:
            images = (m for suffix, m in self.members.items() if _is_image(suffix))
            return next(images, None)
        return self.members.get(column)


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
        """The source with this schema, or else with that of the first shard with samples.

        Args:
            listing: The shards.
            unit_rows: Most rows of a unit.
            keep_images: Whether binary columns pass through.
            schema: The columns as an earlier plan recorded them.

        Raises:
            UserError: The shard cannot be read, or none has samples.
        """
        if schema is not None:
            return WebDataset(listing.root, schema, unit_rows, keep_images)
        for file in listing.files:
            where = listing.root / file.path
            with user_errors(where, "tar"), _Shard(where) as shard:
                samples = [*itertools.islice(shard.samples(), SAMPLED)]
            if samples:
                return WebDataset(listing.root, _schema(samples), unit_rows, keep_images)
        raise UserError(f"INPUT {listing.root / listing.files[0].path} has no rows")

    @property
    def passthrough_schema(self) -> pa.Schema:
        """The key and the texts, and binary columns where images are kept."""
        return self.schema if self.keep_images else without_binary(self.schema)

    def cut(self, files: Sequence[FileInfo]) -> Iterator[Cut]:
        """Cut the shards; reads each one once."""
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

    def _cut_shard(self, file: FileInfo) -> list[Cut]:
        where = self.root / file.path
        with user_errors(where, "tar"), _Shard(where) as shard:
            offsets = (sample.offset for sample in shard.samples())
            return cut_by_offsets(file.path, offsets, self.unit_rows)

    def _tables(
        self, unit: Cut, columns: Sequence[str], rows: int
    ) -> Iterator[tuple[pa.Table, list[str | None]]]:
        """Rows in order, and for each its fault or None."""
        (path,) = unit.files
        schema = pa.schema([self.schema.field(name) for name in columns])
        with _Shard(self.root / path, unit.offset) as shard:
            samples = itertools.islice(shard.samples(), unit.stop - unit.start)
            read = (shard.row(sample, schema) for sample in samples)
            while batch := [*itertools.islice(read, rows)]:
                yield table_of([row for row, _ in batch], schema), [fault for _, fault in batch]


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

    def samples(self) -> Iterator[_Sample]:
        """All samples from here on, in order."""
        sample: _Sample | None = None
        for member in self._members():
            key, suffix = _split(member.name)
            if not key or not member.isreg():
                continue
            if sample is None or sample.key != key or suffix in sample.members:
                if sample is not None:
                    yield sample
                sample = _Sample(key, member.offset)
            sample.members[suffix] = member
        if sample is not None:
            yield sample

    def row(self, sample: _Sample, schema: pa.Schema) -> tuple[dict[str, object], str | None]:
        """A sample's values of these columns, and its fault or None."""
        values: dict[str, object] = {KEY: sample.key}
        fault = None
        for name in schema.names:
            member = sample.member(name)
            if member is None:
                continue
            body = self._read(member)
            try:
                values[name] = body.decode() if is_string(schema.field(name).type) else body
            except UnicodeDecodeError:
                fault = f"{self._where.name} sample {sample.key}: '{name}' is not UTF-8"
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


def _split(name: str) -> tuple[str, str]:
    """A member's key and suffix; both empty where its name is not that of a sample's member."""
    # A name that is not UTF-8 has lone surrogates here, which Arrow does not take.
    text = name.encode(errors="surrogateescape").decode(errors="replace").removeprefix("./")
    folder, slash, base = text.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return (f"{folder}{slash}{stem}", suffix.lower()) if stem and dot else ("", "")


def _is_image(suffix: str) -> bool:
    return suffix == IMAGE or f".{suffix}" in IMAGE_SUFFIXES


def _schema(samples: Sequence[_Sample]) -> pa.Schema:
    suffixes = dict.fromkeys(suffix for sample in samples for suffix in sample.members)
    others = [suffix for suffix in suffixes if not _is_image(suffix) and suffix != KEY]
    types = {suffix: pa.string() if suffix in TEXTS else pa.binary() for suffix in others}
    return pa.schema([(KEY, pa.string()), (IMAGE, pa.binary()), *types.items()])
