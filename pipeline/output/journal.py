"""Rows finished so far, and the one act that turns a unit's rows into an output file.

Storage is the truth. Any step may be repeated, by a retried task, a second driver or the same
command after a crash, so:

- `append` writes finished rows under an attempt's own name, complete or not at all;
- `commit` keeps one row per position, refuses a unit that is not complete, puts rows in input order
  beside the input's own columns, and creates `OUTPUT/part-<index>-<unit>.parquet` exclusively. That
  file's existence is the commit; who comes second reads what the first one counted. A unit that
  takes over the part of an obsolete one replaces it, if nobody else has.

Which rows belong to a unit is the source's to know; when to commit is the driver's.
"""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contract.errors import RunError
from pipeline.contract.record import ADDED, output_schema, row_key
from pipeline.storage.atomic import create_from, draft_for, overwrite, remove_folder, replace_from
from pipeline.storage.location import INTERNAL, Location

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pipeline.sources import Source
    from pipeline.sources.units import Unit

FORMAT = 2
"""Version of the journal's files and of the metadata in a part."""
METADATA_KEY = b"gemma3_batch"
ROW_GROUP_BYTES = 64 * 2**20
"""About the size of a row group in an output file."""
READERS = 16
"""Journal files read at once."""


@dataclass(frozen=True)
class Committed:
    """A unit whose output file is there.

    Attributes:
        unit_id: Which one.
        rows: Rows in it.
        outcomes: Rows by outcome.
        duplicates: Rows that took the results of an identical one.
        by_us: Whether this run created it.
    """

    unit_id: str
    rows: int
    outcomes: Mapping[str, int]
    duplicates: int
    by_us: bool


def entry_schema(results: pa.Schema) -> pa.Schema:
    """A journal file's columns: position in the unit, the row it equals, its results and outcome.

    A row with `same_as` takes everything from the row at that position.
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
    """The journal of one run. It pickles: every process may append and commit.

    Attributes:
        output: OUTPUT.
        results: The task's result columns.
        run: The run's identity, kept in every part; `run["id"]` tells runs apart.
        room: Folder under the journal's own that keeps its entries apart; the runs of one OUTPUT
            share one room, a retry has its own.
    """

    output: Location
    results: pa.Schema
    run: Mapping[str, object]
    room: str = "journal"

    def append(self, unit_id: str, entries: pa.Table) -> None:
        """Add finished rows of one unit (a table of `entry_schema`); repeating it does no harm."""
        schema = entry_schema(self.results).with_metadata({b"format": str(FORMAT).encode()})
        sink = pa.BufferOutputStream()
        pq.write_table(entries.cast(schema), sink)
        where = self.folder(unit_id) / f"{uuid.uuid4().hex}.parquet"
        # Not synced: a file that a power loss spoils is passed over, and its rows computed again.
        overwrite(where, sink.getvalue().to_pybytes(), sync=False)

    def begun(self) -> dict[str, set[int]]:
        """Positions that are finished, of every unit that has any in the journal."""
        found: dict[str, set[int]] = {}
        root = self.output / INTERNAL / self.room
        files = [info.path for info in root.tree() if info.path.endswith(".parquet")]
        with ThreadPoolExecutor(READERS) as pool:
            positions = pool.map(lambda path: _read_entries(root / path, ["position"]), files)
            for path, table in zip(files, positions, strict=True):
                if table is not None:
                    done = found.setdefault(path.split("/", 1)[0], set())
                    done.update(table["position"].to_pylist())
        return found

    def commit(self, unit: Unit, source: Source) -> Committed:
        """Create the unit's part from its journal, or find it there.

        Raises:
            RunError: Rows of the unit are missing, or its input now has another number of rows.
            OSError: The store or the input cannot be read or written.
        """
        committed = self._commit(unit, source)
        self.forget(unit.id)
        return committed

    def committed(self, part: str) -> Committed | None:
        """What a part says of itself; None where there is none."""
        try:
            with (self.output / part).open() as file:
                meta = pq.read_metadata(file)
        except FileNotFoundError:
            return None
        body = json.loads(meta.metadata[METADATA_KEY])
        return Committed(
            unit_id=body["unit"]["id"],
            rows=meta.num_rows,
            outcomes=body["outcomes"],
            duplicates=body["duplicates"],
            by_us=body["run"]["id"] == self.run["id"],
        )

    def entries(self, unit_id: str) -> pa.Table:
        """The unit's finished rows in input order, one for each position, duplicates filled in."""
        folder = self.folder(unit_id)
        files = [info.path for info in folder.tree() if info.path.endswith(".parquet")]
        schema = entry_schema(self.results)
        with ThreadPoolExecutor(READERS) as pool:
            read = pool.map(lambda path: _read_entries(folder / path, schema.names), files)
            tables = [table.cast(schema) for table in read if table is not None]
        return _filled(_one_per_position(pa.concat_tables([schema.empty_table(), *tables])))

    def forget(self, unit_id: str) -> None:
        """Remove a unit's rows: they are in a part, or nobody wants them any more."""
        remove_folder(self.folder(unit_id))

    def folder(self, unit_id: str) -> Location:
        """Where a unit's rows are."""
        return self.output / INTERNAL / self.room / unit_id

    def _commit(self, unit: Unit, source: Source) -> Committed:
        part = self.output / unit.part
        while True:
            found = self.committed(unit.part)
            if found is not None and (found.unit_id == unit.id or unit.replaces is None):
                return found
            stamp = part.info().stamp if found is not None else None
            with draft_for(part) as draft:
                self._write_draft(unit, source, draft)
                if stamp is None:
                    create_from(draft, part)
                else:
                    replace_from(draft, part, stamp)

    def _write_draft(self, unit: Unit, source: Source, draft: str) -> None:
        """The complete part under an attempt's own name."""
        entries = self.entries(unit.id)
        if entries.num_rows != unit.rows:
            raise RunError(f"{unit.name}: {entries.num_rows} of its {unit.rows} rows were finished")
        schema = output_schema(source.passthrough_schema, self.results)
        schema = schema.with_metadata(
            {**(schema.metadata or {}), METADATA_KEY: self._metadata(unit, entries)}
        )
        write_part(draft, schema, _joined(unit, source, entries, schema))

    def _metadata(self, unit: Unit, entries: pa.Table) -> bytes:
        ends = unit.files if len(unit.files) == 1 else (unit.files[0], unit.files[-1])
        identity = {"id": unit.id, "files": ends, "start": unit.start, "stop": unit.stop}
        duplicates = entries.num_rows - entries["same_as"].null_count
        return metadata(self.run, identity, count_outcomes(entries), duplicates)


def metadata(
    run: Mapping[str, object], unit: Mapping[str, Any], outcomes: Mapping[str, int], duplicates: int
) -> bytes:
    """What a part says of itself, under `METADATA_KEY`."""
    body = {
        "format": FORMAT,
        "run": run,
        "unit": unit,
        "outcomes": outcomes,
        "duplicates": duplicates,
    }
    return json.dumps(body).encode()


def write_part(path: str, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write tables to a local parquet file, in row groups of about `ROW_GROUP_BYTES`."""
    with pq.ParquetWriter(path, schema) as writer:
        for table in _sized(tables):
            writer.write_table(table)


def count_outcomes(rows: pa.Table) -> dict[str, int]:
    """Rows by outcome."""
    counted = pc.value_counts(rows["outcome"])
    return {item["values"].as_py(): item["counts"].as_py() for item in counted}


def _read_entries(file: Location, columns: list[str]) -> pa.Table | None:
    """A journal file; None where it is spoilt, or gone because its unit was committed."""
    try:
        return pq.read_table(pa.BufferReader(file.read()), columns=columns)
    except (FileNotFoundError, pa.ArrowInvalid):
        return None


def _one_per_position(entries: pa.Table) -> pa.Table:
    """Sort by position and keep the first of each: a retried step may have written a row twice.

    A row that was computed goes before one that only says which it equals.
    """
    keys = [("position", "ascending", "at_end"), ("same_as", "ascending", "at_start")]
    ordered = entries.take(pc.sort_indices(entries, sort_keys=keys))
    positions = ordered["position"].combine_chunks()
    if not len(positions):
        return ordered
    is_new = pc.not_equal(positions[1:], positions[:-1])
    return ordered.filter(pa.concat_arrays([pa.array([True]), is_new]))


def _filled(entries: pa.Table) -> pa.Table:
    """Rows that equal another one with that one's results; ones whose other is missing go."""
    if entries["same_as"].null_count == entries.num_rows:
        return entries
    positions = entries["position"].to_numpy()
    where = _leaders(positions, pc.coalesce(entries["same_as"], entries["position"]).to_numpy())
    there = where >= 0
    own = entries.filter(pa.array(there))
    taken = entries.take(pa.array(where[there]))
    columns = {**_by_name(taken), "position": own["position"], "same_as": own["same_as"]}
    return pa.table(columns, schema=entries.schema)


def _leaders(positions: np.ndarray, equals: np.ndarray) -> np.ndarray:
    """[n] where in `positions` the row is that each one equals in the end; -1 where it is missing.

    A row equals an earlier one or itself, so following the chain comes to an end. Chains arise
    where a driver found a row finished that another one takes its results from.
    """
    where = np.searchsorted(positions, equals).clip(max=len(positions) - 1)
    where[positions[where] != equals] = -1
    while True:
        further = np.where(where >= 0, where[where], -1)
        if (further == where).all():
            return where
        where = further


def _joined(unit: Unit, source: Source, entries: pa.Table, schema: pa.Schema) -> Iterator[pa.Table]:
    """The input's own columns beside the entries, piece by piece, in input order."""
    done = 0
    for own in source.passthrough(unit):
        rows = entries.slice(done, own.num_rows)
        if rows.num_rows != own.num_rows:
            break
        keys = [row_key(unit.id, position) for position in rows["position"].to_pylist()]
        columns = {**_by_name(own), **_by_name(rows), "row_key": pa.array(keys, pa.string())}
        yield pa.table([columns[name] for name in schema.names], schema=schema)
        done += own.num_rows
    if done != unit.rows:
        raise RunError(f"{unit.name} changed while it was read; run again")


def _by_name(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))


def _sized(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Gather small tables into ones of about `ROW_GROUP_BYTES`."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(piece.nbytes for piece in held) >= ROW_GROUP_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)
