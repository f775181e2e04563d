"""What every format of parts does: write a part to a draft, read it, and tell its commit record.

How a draft becomes a part, whole or not at all, is `parts`' to decide, for all formats alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.contract.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from pipeline.storage.location import Location

CommitRecord = Mapping[str, Any]
"""What a part says of itself, as JSON values; see `parts.commit_record`."""
IsWanted = Callable[["pa.Field"], bool]
"""Says of a column whether it is read."""


class PartFormat(Protocol):
    """A format of parts."""

    @property
    def suffix(self) -> str:
        """How the names of its parts end, with the dot."""
        ...

    @property
    def keeps_images(self) -> bool:
        """Whether binary input columns are always copied, whatever `keep_images` says."""
        ...

    def misfit(self, field: pa.Field) -> str | None:
        """Why it cannot hold a column; None if it can."""
        ...

    def write(
        self,
        draft: str,
        part: Location,
        schema: pa.Schema,
        tables: Iterable[pa.Table],
        record: CommitRecord,
    ) -> None:
        """Write the rows of a part to a draft.

        What the part needs beside it is written too, so that it is there when the part is.

        Args:
            draft: Path on this machine.
            part: What the draft is to become.
            schema: The columns.
            tables: The rows in order, in tables of that schema.
            record: The commit record.

        Raises:
            OSError: It cannot be written.
        """
        ...

    def read(self, part: Location, is_wanted: IsWanted) -> pa.Table:
        """The rows of a part, with their types and the columns that are wanted.

        Raises:
            OSError: It cannot be read.
            UserError: It is not as it was written.
        """
        ...

    def read_whole(self, part: Location) -> tuple[pa.Table, CommitRecord]:
        """All rows of a part and its commit record, of one version. Raises like `read`."""
        ...

    def read_schema(self, part: Location) -> pa.Schema:
        """The columns of a part. Raises like `read`."""
        ...

    def read_record(self, part: Location) -> tuple[CommitRecord, str]:
        """The commit record of a part, and the stamp of the version that has it.

        Raises:
            FileNotFoundError: There is no such part.
            OSError, UserError: Like `read`.
        """
        ...


def wanted_columns(schema: pa.Schema, is_wanted: IsWanted) -> pa.Schema:
    """The columns that are wanted, with their metadata."""
    unwanted = [place for place, field in enumerate(schema) if not is_wanted(field)]
    for place in reversed(unwanted):
        schema = schema.remove(place)
    return schema


def not_as_written(part: Location) -> UserError:
    """The error of a part that somebody else has changed or damaged."""
    return UserError(
        f"{part} is not as it was written; put it back, or delete it and give the same command "
        "again, which computes its rows"
    )
