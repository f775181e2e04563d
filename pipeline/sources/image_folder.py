"""Decides how a folder of images or videos is read: as a table with two columns.

`path` is relative to the folder; `image`, or `video`, is the file's bytes. A unit is a slice of the
sorted listing. Cutting and reading open no file: the render stage fetches them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.sources.listing import Kind
from pipeline.sources.source import COPY_ROWS, READ_BYTES, READ_ROWS
from pipeline.sources.units import Cut, cut_evenly
from pipeline.storage.parallel import in_order
from pipeline.storage.refusals import refusal_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.sources.listing import Listing
    from pipeline.storage.location import FileInfo, Location

FIRST_ROWS = 4
"""Images read at once before it is known how large they are."""
COLUMNS = {Kind.IMAGES: "image", Kind.VIDEOS: "video"}
"""The column of the files themselves."""


@dataclass(frozen=True)
class ImageFolder:
    """A `Source` over images, or over videos."""

    root: Location
    unit_rows: int
    keep_images: bool
    kind: Kind = Kind.IMAGES

    @property
    def schema(self) -> pa.Schema:
        """`path`, and `image` or `video`."""
        return pa.schema([("path", pa.string()), (COLUMNS[self.kind], pa.binary())])

    @staticmethod
    def from_listing(
        listing: Listing, unit_rows: int, keep_images: bool, schema: pa.Schema | None
    ) -> ImageFolder:
        """The source over these images or videos; its columns are always the same."""
        return ImageFolder(listing.root, unit_rows, keep_images, listing.kind)

    @property
    def passthrough_schema(self) -> pa.Schema:
        """`path`; the other one too where images are kept."""
        return self.schema if self.keep_images else pa.schema([self.schema.field("path")])

    def with_schema(self, schema: pa.Schema) -> ImageFolder:
        """The same source: its columns are always these."""
        return self

    def with_columns_of(self, files: Sequence[FileInfo]) -> ImageFolder:
        """The same source."""
        return self

    def cut(self, files: Sequence[FileInfo]) -> Iterator[Cut]:
        """Cut the files into slices of nearly equal length."""
        for start, stop in cut_evenly(0, len(files), self.unit_rows):
            paths = tuple(file.path for file in files[start:stop])
            yield Cut(files=paths, start=0, stop=len(paths))

    def read(self, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield a unit's rows; `image`, or `video`, holds paths."""
        paths = pa.array(unit.files, pa.string())
        table = pa.table(dict.fromkeys(self.schema.names, paths)).select(list(columns))
        for start in range(0, len(unit.files), COPY_ROWS):
            yield table.slice(start, COPY_ROWS)

    def passthrough(self, unit: Cut) -> Iterator[pa.Table]:
        """Yield a unit's rows; an image that is not there any more is null."""
        if not self.keep_images:
            yield from self.read(unit, self.passthrough_schema.names)
            return
        start, rows = 0, FIRST_ROWS
        while paths := unit.files[start : start + rows]:
            images = [*in_order(self._read_or_none, paths)]
            yield pa.table([pa.array(paths), pa.array(images, pa.binary())], schema=self.schema)
            start += len(paths)
            longest = max(len(image or b"") for image in images)
            rows = max(1, min(READ_ROWS, READ_BYTES // max(1, longest)))

    def _read_or_none(self, path: str) -> bytes | None:
        """An image's bytes; None if it is gone, but not if all of them are. Raises OSError."""
        try:
            return (self.root / path).read()
        except FileNotFoundError as error:
            if refusal_of(error, is_local=self.root.is_local) or not self.root.exists():
                raise
            return None
