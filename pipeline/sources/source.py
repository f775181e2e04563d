"""Decides what the source of every format offers: cutting files into units, and reading a unit.

Which files there are is `listing`'s, which units there are is the plan's. A source is sent to every
process that reads, so it pickles and does not hold the listing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pyarrow as pa

    from pipeline.sources.listing import Kind
    from pipeline.sources.units import Cut
    from pipeline.storage.location import FileInfo, Location

READ_ROWS = 32
"""Rows read at a time where images are among the columns, to limit memory."""
READ_BYTES = 32 * 2**20
"""Bytes read at a time where rows are long, but at least one row."""
COPY_ROWS = 4096
"""Rows read at a time where they are not."""


Piece = TypeVar("Piece")


def by_bytes(
    pieces: Iterable[Piece], size: Callable[[Piece], int], most: int
) -> Iterator[list[Piece]]:
    """Group pieces so that no group has more than `most`, or more than one beyond `READ_BYTES`."""
    group: list[Piece] = []
    held = 0
    for piece in pieces:
        group.append(piece)
        held += size(piece)
        if len(group) == most or held >= READ_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


def size_of(value: object) -> int:
    """About how many bytes a value of a row takes: those of its texts and images."""
    if isinstance(value, (bytes, str)):
        return len(value)
    if isinstance(value, dict):
        return sum(map(size_of, value.values()))
    return sum(map(size_of, value)) if isinstance(value, (list, tuple)) else 0  # a map has pairs


class Source(Protocol):
    """An input whose columns are known."""

    @property
    def root(self) -> Location:
        """The folder that paths of files and images are relative to."""
        ...

    @property
    def kind(self) -> Kind:
        """The format of its files."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """All columns that a task can read."""
        ...

    @property
    def passthrough_schema(self) -> pa.Schema:
        """The input columns that are copied to the output, as they are there."""
        ...

    def with_schema(self, schema: pa.Schema) -> Source:
        """The same source with these columns, as a plan recorded them."""
        ...

    def with_columns_of(self, files: Sequence[FileInfo]) -> Source:
        """The same source with the columns of these files too, which came later (`unified`).

        Raises:
            UserError: A file cannot be read, or new parts could not be read beside those there are.
        """
        ...

    def cut(self, files: Sequence[FileInfo]) -> Iterator[Cut]:
        """Cut these files into units, in order; no other file is opened.

        Raises:
            UserError: A file cannot be read, or `schema` does not hold its columns.
        """
        ...

    def read(self, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield a unit's rows in order, in small tables.

        Args:
            unit: What `cut` returned.
            columns: The columns of the tables; `FAULT` is added where a row cannot be read.

        Raises:
            OSError: The file cannot be read.
            pa.ArrowException: The file is damaged.
        """
        ...

    def passthrough(self, unit: Cut) -> Iterator[pa.Table]:
        """Yield a unit's rows in order, in tables of `passthrough_schema`. Raises like `read`."""
        ...
