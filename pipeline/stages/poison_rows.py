"""Which rows kill the process that works on them, found by marking each isolated row.

When a process dies, any of its rows may be the cause. They are run again one at a time, and a mark
lies in storage while a stage works on such a row. A mark that remains counts as a death of the
process. Marks outlive the driver, so a poison row is found even if it takes the driver down too.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.storage.atomic import overwrite, remove, remove_folder
from pipeline.storage.location import INTERNAL, Location
from pipeline.storage.write_fault import writing_to

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEATHS = 3
"""Deaths of its process after which an isolated row counts as a poison row. One is not enough: a
machine that was taken away looks the same."""
_MARK = re.compile(r"(?P<row>\d+)-(?P<stage>\w+)-")
"""How its name begins. Others are a file system's own."""


@dataclass(frozen=True)
class PoisonRows:
    """The marks of isolated rows in an OUTPUT. It pickles."""

    output: Location

    @contextlib.contextmanager
    def isolated(self, stage: str, unit_id: str, position: int) -> Iterator[None]:
        """Mark a row while a stage works on it: removed at the end, also after an exception.

        Args:
            stage: The stage's name.
            unit_id: The row's unit.
            position: The row's position in it.

        Raises:
            OutputError: The store cannot be written to, and that will last.
            OSError: It cannot be written to for now.
        """
        mark = self._folder(unit_id) / f"{position}-{stage}-{uuid.uuid4().hex}"
        with writing_to(self.output):
            overwrite(mark, b"", sync=False)
        try:
            yield
        finally:
            with writing_to(self.output):
                remove(mark)

    def found(self, unit_id: str) -> dict[int, str]:
        """Positions of poison rows, and the stage that each one kills. Raises OSError."""
        marks = filter(None, map(_MARK.match, self._folder(unit_id).names()))
        deaths = Counter((int(mark["row"]), mark["stage"]) for mark in marks)
        return {row: stage for (row, stage), count in deaths.items() if count >= MAX_DEATHS}

    def clear(self, unit_id: str) -> None:
        """Remove a unit's marks. Raises OSError."""
        remove_folder(self._folder(unit_id))

    def _folder(self, unit_id: str) -> Location:
        return self.output / INTERNAL / "suspects" / unit_id
