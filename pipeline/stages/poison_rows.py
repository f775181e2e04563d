"""Which row ends the process that works on it: found by letting it work alone, and noting that.

Where a process dies, all rows it held are poison_rows. They are done again one at a time, and each
leaves a mark in storage while a stage works on it. A mark that is left behind is a death: the row's
process did not come back. The marks outlive drivers, so a row that ends whatever it meets is found
even if it ends the driver's own machine.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.storage.atomic import overwrite, remove, remove_folder
from pipeline.storage.location import INTERNAL, Location

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEATHS = 3
"""A row whose process died so often while it was alone is not tried again. More than once, because
a machine that is taken away looks the same."""


@dataclass(frozen=True)
class PoisonRows:
    """The marks of one OUTPUT. It pickles."""

    output: Location

    @contextlib.contextmanager
    def isolated(self, stage: str, unit_id: str, position: int) -> Iterator[None]:
        """Mark a row while a stage works on it; an exception takes it away, a death cannot."""
        mark = self._folder(unit_id) / f"{position}-{stage}-{uuid.uuid4().hex}"
        overwrite(mark, b"", sync=False)
        try:
            yield
        finally:
            remove(mark)

    def poisonous(self, unit_id: str) -> dict[int, str]:
        """Rows that ended their processes too often, with the stage they did it in."""
        marks = (name.split("-") for name in self._folder(unit_id).names())
        deaths = Counter((int(mark[0]), mark[1]) for mark in marks)
        return {row: stage for (row, stage), count in deaths.items() if count >= MAX_DEATHS}

    def clear(self, unit_id: str) -> None:
        """Forget a unit: it is done."""
        remove_folder(self._folder(unit_id))

    def _folder(self, unit_id: str) -> Location:
        return self.output / INTERNAL / "suspects" / unit_id
