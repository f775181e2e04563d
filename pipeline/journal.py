"""Rows finished so far, and the one act that turns a unit's rows into an output file.

Storage is the truth. Any step may be repeated, by a retried task or a second driver, so:

- `append` writes finished rows under an attempt's own name, complete or not at all;
- `commit` keeps one row per position, refuses a unit that is not complete, puts rows in input order
  beside the input's own columns, and creates `OUTPUT/part-<index>-<unit>.parquet` exclusively. That
  file's existence is the commit; who comes second reads what the first one counted.

Which rows belong to a unit is the source's; when to commit is the driver's.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import RunError
from pipeline.record import ADDED, output_schema, row_key
from pipeline.storage import INTERNAL, create_exclusively, sync_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.sources import Source
    from pipeline.units import Unit

FORMAT = 1
"""Version of the journal's files and of the metadata in a part."""
METADATA_KEY = b"gemma3_batch"
ROW_GROUP_BYTES = 64 * 2**20
"""About the size of a row group in an output file."""


@dataclass(frozen=True)
class Committed:
    """A unit whose output file is there.

    Attributes:
        unit_id: Which one.
        rows: Rows in it.
        outcomes: Rows by outcome.
        by_us: Whether this run created it.
    """

    unit_id: str
    rows: int
    outcomes: Mapping[str, int]
    by_us: bool


def entry_schema(results: pa.Schema) -> pa.Schema:
    """A journal file's columns: the row's position in its unit, its results, its outcome."""
    added = [field for field in ADDED if field.name != "row_key"]
    return pa.schema([pa.field("position", pa.int64(), nullable=False), *results, *added])


@dataclass(frozen=True)
class Journal:
    """The journal of one run. It pickles: every process may append and commit.

    Attributes:
        output: Absolute path of OUTPUT.
        results: The task's result columns.
        run: The run's identity, kept in every part; `run["id"]` tells runs apart.
    """

    output: str
    results: pa.Schema
    run: Mapping[str, object]

    def append(self, unit_id: str, entries: pa.Table) -> None:
        """Add finished rows of one unit (a table of `entry_schema`); repeating it does no harm."""
        folder = self._folder(unit_id)
        os.makedirs(folder, exist_ok=True)
        name = os.path.join(folder, uuid.uuid4().hex)
        schema = entry_schema(self.results).with_metadata({b"format": str(FORMAT).encode()})
        pq.write_table(entries.cast(schema), f"{name}.tmp")
        os.rename(f"{name}.tmp", f"{name}.parquet")

    def commit(self, unit: Unit, source: Source) -> Committed:
        """Create the unit's part from its journal.

        Raises:
            RunError: Rows of the unit are missing, or its input now has another number of rows.
        """
        part = self.part_path(unit)
        if not os.path.exists(part):
            draft = self._write_draft(unit, source)
            create_exclusively(draft, part)
        committed = self._read_committed(part)
        shutil.rmtree(self._folder(unit.id), ignore_errors=True)
        return committed

    def part_path(self, unit: Unit) -> str:
        """Where the unit's output file is: names sort as the input does."""
        return os.path.join(self.output, f"part-{unit.index:08d}-{unit.id}.parquet")

    def entries(self, unit: Unit) -> pa.Table:
        """The unit's rows in input order, one for each position.

        Raises:
            RunError: There are fewer than the unit has.
        """
        folder = self._folder(unit.id)
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        files = [os.path.join(folder, name) for name in names if name.endswith(".parquet")]
        schema = entry_schema(self.results)
        tables = [pq.read_table(file, schema=schema) for file in files]
        rows = _one_per_position(pa.concat_tables(tables) if tables else schema.empty_table())
        if rows.num_rows != unit.rows:
            raise RunError(f"{unit.name}: {rows.num_rows} of its {unit.rows} rows were finished")
        return rows

    def _folder(self, unit_id: str) -> str:
        return os.path.join(self.output, INTERNAL, "journal", unit_id)

    def _write_draft(self, unit: Unit, source: Source) -> str:
        """The complete part under an attempt's own name, on disk."""
        entries = self.entries(unit)
        counts = _count_outcomes(entries)
        schema = output_schema(source.passthrough_schema, self.results)
        schema = schema.with_metadata(
            {**(schema.metadata or {}), METADATA_KEY: self._metadata(unit, counts)}
        )
        draft = os.path.join(self._folder(unit.id), f"{uuid.uuid4().hex}.part")
        with open(draft, "wb") as file:
            with pq.ParquetWriter(file, schema) as writer:
                for table in _sized(_joined(unit, source, entries, schema)):
                    writer.write_table(table)
            sync_file(file)
        return draft

    def _metadata(self, unit: Unit, counts: Mapping[str, int]) -> bytes:
        identity = {"id": unit.id, "files": unit.files, "start": unit.start, "stop": unit.stop}
        body = {"format": FORMAT, "run": self.run, "unit": identity, "outcomes": counts}
        return json.dumps(body).encode()

    def _read_committed(self, part: str) -> Committed:
        meta = pq.read_metadata(part)
        body = json.loads(meta.metadata[METADATA_KEY])
        by_us = body["run"]["id"] == self.run["id"]
        return Committed(body["unit"]["id"], meta.num_rows, body["outcomes"], by_us)


def _one_per_position(entries: pa.Table) -> pa.Table:
    """Sort by position and keep the first of each: a retried step may have written a row twice."""
    ordered = entries.sort_by("position")
    positions = ordered["position"].combine_chunks()
    if not len(positions):
        return ordered
    is_new = pc.not_equal(positions[1:], positions[:-1])
    return ordered.filter(pa.concat_arrays([pa.array([True]), is_new]))


def _count_outcomes(entries: pa.Table) -> dict[str, int]:
    counted = pc.value_counts(entries["outcome"])
    return {item["values"].as_py(): item["counts"].as_py() for item in counted}


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


def _sized(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Gather small tables into ones of about `ROW_GROUP_BYTES`."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(piece.nbytes for piece in held) >= ROW_GROUP_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)
