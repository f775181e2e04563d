"""A place that is a folder of this machine in one run of a test and an S3 bucket in the next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import fsspec
import pyarrow as pa

from pipeline.sources import Source, list_input, open_source
from pipeline.sources.units import Cut
from pipeline.storage.location import FileInfo


@dataclass(frozen=True)
class Place:
    """Where a test's input lies."""

    uri: str

    def write(self, name: str, body: bytes) -> None:
        """Put a file there."""
        with fsspec.open(f"{self.uri}/{name}", "wb", auto_mkdir=True) as file:
            file.write(body)

    def files(self) -> Sequence[FileInfo]:
        """What a listing of it has."""
        return list_input(self.uri).files

    def source(self, *, unit_rows: int = 10, keep_images: bool = False) -> Source:
        """The source over all of it."""
        return open_source(list_input(self.uri), unit_rows=unit_rows, keep_images=keep_images)

    def cuts(self, source: Source) -> list[Cut]:
        """All its units."""
        return list(source.cut(self.files()))


def rows_of(source: Source, cuts: Iterable[Cut], columns: list[str]) -> list[dict[str, object]]:
    """All rows of these units."""
    return [row for cut in cuts for table in source.read(cut, columns) for row in table.to_pylist()]


def passed_through(source: Source, cuts: Iterable[Cut]) -> pa.Table:
    """All units as they go to the output."""
    return pa.concat_tables(table for cut in cuts for table in source.passthrough(cut))
