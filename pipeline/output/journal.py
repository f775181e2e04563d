"""The journal: rows that are finished, of units that are not committed yet.

`append` writes some rows of a unit as a file under a name of its own, whole or not at all, so any
step may be repeated: by a retried task, by a second driver, by the same command after a crash.
`entries` then keeps one row for each position. `commit` makes parts of them.
"""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contract.record import ADDED, Outcome
from pipeline.output.damage import undamaged
from pipeline.storage.atomic import overwrite, remove, remove_folder
from pipeline.storage.location import INTERNAL, Location

if TYPE_CHECKING:
    from collections.abc import Collection

FORMAT = 2
"""Version of the journal's files."""
OF_RUNS = "journal"
"""Folder of the journal that all runs of an OUTPUT share."""
OF_RETRIES = "retry"
"""Folder of the journal that all retries of an OUTPUT share."""
READERS = 16
"""Journal files read at once."""


def entry_schema(results: pa.Schema) -> pa.Schema:
    """Columns of a journal file.

    `position` in the unit; `same_as`, the position of an identical row whose results the row takes
    (its other columns are then null); the result columns; outcome, error and token counts.

    Args:
        results: The task's result columns.
    """
    added = [
        field.with_nullable(True) if field.name == "outcome" else field
        for field in ADDED
        if field.name != "row_key"
    ]
    position = pa.field("position", pa.int64(), nullable=False)
    return pa.schema([position, pa.field("same_as", pa.int64()), *results, *added])


@dataclass(frozen=True)
class Journal:
    """A journal of an OUTPUT. It pickles: every process may append to it and read it.

    Attributes:
        output: OUTPUT.
        results: The task's result columns.
        folder_name: Name of its folder, `OF_RUNS` or `OF_RETRIES`.
    """

    output: Location
    results: pa.Schema
    folder_name: str = OF_RUNS

    def append(self, unit_id: str, entries: pa.Table) -> None:
        """Add finished rows of one unit; the same rows may be added again.

        Args:
            unit_id: The unit.
            entries: The rows, a table of `entry_schema`.

        Raises:
            OSError: The store cannot be written to.
        """
        schema = entry_schema(self.results).with_metadata({b"format": str(FORMAT).encode()})
        sink = pa.BufferOutputStream()
        pq.write_table(entries.cast(schema), sink, write_page_checksum=True)
        where = self.folder(unit_id) / f"{uuid.uuid4().hex}.parquet"
        # Not synced: a file damaged by a power loss is ignored, and its rows are computed again.
        overwrite(where, sink.getvalue().to_pybytes(), sync=False)

    def begun(self) -> dict[str, set[int]]:
        """Positions that are finished, by unit, of all units in the journal. Raises OSError."""
        return {unit_id: {*rows} for unit_id, rows in self.outcomes().items()}

    def outcomes(self) -> dict[str, dict[int, str | None]]:
        """Outcomes by position, by unit, of all units in the journal. Raises OSError.

        That of a row with `same_as` is None.
        """
        found: dict[str, dict[int, str | None]] = {}
        root = self.output / INTERNAL / self.folder_name
        files = [info.path for info in root.tree() if info.path.endswith(".parquet")]
        columns = ["position", "outcome"]
        with ThreadPoolExecutor(READERS) as pool:
            # All columns: what `entries` would not take is not finished.
            read = pool.map(lambda path: _read_entries(root / path), files)
            for path, table in zip(files, read, strict=True):
                if table is not None:
                    rows = found.setdefault(path.split("/", 1)[0], {})
                    rows.update(zip(*(table[name].to_pylist() for name in columns), strict=True))
        return found

    def entries(self, unit_id: str) -> pa.Table:
        """A unit's finished rows, one for each position, ascending.

        Rows with `same_as` have the results of that row; if it is not finished, they are left out.

        Returns:
            A table of `entry_schema`.

        Raises:
            OSError: The store cannot be read.
        """
        folder = self.folder(unit_id)
        files = [info.path for info in folder.tree() if info.path.endswith(".parquet")]
        schema = entry_schema(self.results)
        with ThreadPoolExecutor(READERS) as pool:
            read = pool.map(lambda path: _read_entries(folder / path), files)
            tables = [
                table.select(schema.names).cast(schema) for table in read if table is not None
            ]
        return _filled(_one_per_position(pa.concat_tables([schema.empty_table(), *tables])))

    def forget(self, unit_id: str) -> None:
        """Remove a unit's rows, which are committed. Raises OSError."""
        remove_folder(self.folder(unit_id))

    def forget_failures(self, again: Collection[str]) -> None:
        """Remove rows without results, so that they are computed again; keep all others.

        What a retry that was killed left here is not done for the next one. No other driver may
        write to this journal meanwhile.

        Args:
            again: Outcomes with results that are computed again as well.

        Raises:
            OSError: The store cannot be read or written.
        """
        failed = {str(outcome) for outcome in Outcome if not outcome.has_results}
        values = pa.array(sorted(failed | {*again}), pa.string())
        root = self.output / INTERNAL / self.folder_name
        files = [info.path for info in root.tree()]
        for unit_id in sorted({path.split("/", 1)[0] for path in files}):
            rows = self.entries(unit_id)
            kept = rows.filter(pc.invert(pc.is_in(rows["outcome"], value_set=values)))
            if kept.num_rows == rows.num_rows:
                continue
            if kept.num_rows:  # before the rest is removed: this may be interrupted as well
                self.append(unit_id, kept)
            for path in files:
                if path.startswith(f"{unit_id}/"):
                    remove(root / path)

    def folder(self, unit_id: str) -> Location:
        """Where a unit's rows are."""
        return self.output / INTERNAL / self.folder_name / unit_id


def have_results(outcomes: pa.ChunkedArray) -> pa.ChunkedArray:
    """[rows] bool: which outcomes are no failures; null is one."""
    good = pa.array([str(outcome) for outcome in Outcome if outcome.has_results])
    return pc.is_in(outcomes, value_set=good)


def _read_entries(file: Location) -> pa.Table | None:
    """A journal file; None if it is damaged, or gone because its unit was committed.

    Raises:
        OSError: It cannot be read.
    """
    try:
        body = file.read()
    except FileNotFoundError:
        return None
    return undamaged(body)


def _one_per_position(entries: pa.Table) -> pa.Table:
    """Sorted by position, one row for each: a repeated step may have written a row twice.

    A row that was computed is preferred to one with `same_as`, and of two that were computed the
    one with results: two drivers may have computed it, one of them with an engine that failed.
    """
    is_failed = pc.invert(have_results(entries["outcome"])).cast(pa.int8())
    ranked = entries.append_column("is_failed", is_failed)
    keys = [
        ("position", "ascending", "at_end"),
        ("same_as", "ascending", "at_start"),
        ("is_failed", "ascending", "at_end"),
    ]
    ordered = entries.take(pc.sort_indices(ranked, sort_keys=keys))
    positions = ordered["position"].combine_chunks()
    if not len(positions):
        return ordered
    is_new = pc.not_equal(positions[1:], positions[:-1])
    return ordered.filter(pa.concat_arrays([pa.array([True]), is_new]))


def _filled(entries: pa.Table) -> pa.Table:
    """Rows with `same_as` get that row's results; those whose other row is missing are left out."""
    if entries["same_as"].null_count == entries.num_rows:
        return entries
    positions = entries["position"].to_numpy()
    where = _originals(positions, pc.coalesce(entries["same_as"], entries["position"]).to_numpy())
    is_known = where >= 0
    own = entries.filter(pa.array(is_known))
    taken = entries.take(pa.array(where[is_known]))
    columns = dict(zip(taken.column_names, taken.columns, strict=True))
    columns.update(position=own["position"], same_as=own["same_as"])
    return pa.table(columns, schema=entries.schema)


def _originals(positions: np.ndarray, equals: np.ndarray) -> np.ndarray:
    """For each row, the index in `positions` of the computed row that it equals in the end.

    `same_as` may form chains: of two drivers, one may find the row finished that the other one
    refers to. A row equals an earlier one or itself, so every chain ends.

    Args:
        positions: [n] int64, ascending: the rows' positions.
        equals: [n] int64, the positions of the rows they equal.

    Returns:
        [n] int64, -1 where that row is missing.
    """
    where = np.searchsorted(positions, equals).clip(max=len(positions) - 1)
    where[positions[where] != equals] = -1
    while True:
        further = np.where(where >= 0, where[where], -1)
        if (further == where).all():
            return where
        where = further
