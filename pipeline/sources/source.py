"""What every source offers, whatever the files are.

A source knows how to cut files into units and how to read a unit; which files there are is
`listing`'s, which units there are is the plan's. It pickles and is small: it travels to every
process that reads, and never holds the listing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from pipeline.sources.listing import Kind
    from pipeline.sources.units import Cut
    from pipeline.storage.location import FileInfo, Location

READ_ROWS = 32
"""Rows read at a time where images are among the columns, so that they never pile up."""
COPY_ROWS = 4096
"""Rows read at a time where they are not."""


class Source(Protocol):
    """An input whose columns are known."""

    @property
    def root(self) -> Location:
        """The folder that files and relative image paths start from."""
        ...

    @property
    def kind(self) -> Kind:
        """What its files are."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """All columns a task can ask for."""
        ...

    @property
    def passthrough_schema(self) -> pa.Schema:
        """The columns that go through to the output, as they will be there."""
        ...

    def cut(self, files: Sequence[FileInfo]) -> Iterator[Cut]:
        """These files cut into units, in order. No other file is opened.

        Raises:
            UserError: A file cannot be read, or its columns differ from `schema`.
        """
        ...

    def read(self, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
        """A unit's rows in order, in small tables of these columns, and `FAULT` where need be.

        Raises:
            OSError, pa.ArrowException: The file cannot be read any more.
        """
        ...

    def passthrough(self, unit: Cut) -> Iterator[pa.Table]:
        """A unit's rows in order, in tables of `passthrough_schema`. Raises like `read`."""
        ...
