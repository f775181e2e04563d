"""A part: one unit's rows as a file of OUTPUT. The one module that knows what such a file is.

Decides its format (parquet), its name, how it is written (whole or not at all), how it is read, and
where in it its commit record lies. To write another format, change this module; the rest of the
pipeline hands it Arrow tables and gets Arrow tables back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import FSSpecHandler, PyFileSystem

from pipeline.storage.atomic import create_from, draft_for, replace_from
from pipeline.storage.location import stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ray.data import Dataset

    from pipeline.storage.location import FileInfo, Location

PREFIX = "part-"
DIGITS = 8
PAGE_DIGITS = 4
"""Object stores are asked for names by their first digits, 10,000 names at most at a time."""
METADATA_KEY = b"gemma3_batch"
"""Where the commit record lies: in the file's key-value metadata."""
FORMAT = 2
"""Version of the commit record."""
ROW_GROUP_BYTES = 64 * 2**20
"""About the size of a row group, in memory."""

CommitRecord = Mapping[str, Any]
"""What a part says of itself, as JSON values; see `commit_record`."""


@dataclass(frozen=True)
class Committed:
    """What is in a unit's part.

    Attributes:
        unit_id: The unit.
        rows: Rows of the part.
        outcomes: Rows by outcome.
        duplicates: Rows that took the results of an identical one.
        stamp: The version of the part that this is of (`FileInfo.stamp`).
        index: The unit's index in the plan; None in parts of earlier versions.
    """

    unit_id: str
    rows: int
    outcomes: Mapping[str, int]
    duplicates: int
    stamp: str = field(default="", compare=False)
    index: int | None = field(default=None, compare=False)


def part_name(index: int, unit_id: str) -> str:
    """The name of a unit's part; names sort in the order of `index`."""
    return f"{PREFIX}{index:0{DIGITS}d}-{unit_id}.parquet"


def part_index(name: str) -> int:
    """The index in a part's name."""
    return int(name[len(PREFIX) : len(PREFIX) + DIGITS])


def list_parts(output: Location, count: int) -> Iterator[FileInfo]:
    """The parts that exist, unsorted; an object store is asked for 10,000 indices at a time.

    Args:
        output: OUTPUT.
        count: Units of the plan: indices are below it.

    Raises:
        OSError: OUTPUT cannot be listed.
    """
    if output.is_local:
        yield from output.infos(PREFIX)
        return
    for page in range(-(-count // 10 ** (DIGITS - PAGE_DIGITS))):
        yield from output.infos(f"{PREFIX}{page:0{PAGE_DIGITS}d}")


def part_files(output: Location) -> list[str]:
    """Paths of the parts on the output's filesystem, in input order."""
    return [(output / name).path for name in sorted(output.names(PREFIX))]


def open_parts(output: Location, schema: pa.Schema | None = None) -> ds.Dataset:
    """All parts as one dataset in input order, which reads when it is asked.

    Args:
        output: OUTPUT.
        schema: The columns; those that a part lacks are null. By default those of the first part.
    """
    filesystem = PyFileSystem(FSSpecHandler(output.fs))
    return ds.dataset(part_files(output), schema=schema, filesystem=filesystem, format="parquet")


def open_parts_in_ray(output: Location) -> Dataset:
    """All parts of an OUTPUT as a Ray dataset, which reads when it is asked."""
    import ray.data

    filesystem = PyFileSystem(FSSpecHandler(output.fs))
    return ray.data.read_parquet(part_files(output), filesystem=filesystem, partitioning=None)


def part_schema(part: Location) -> pa.Schema:
    """The columns of a part. Raises OSError."""
    with part.open() as file, pq.ParquetFile(file) as parquet:
        return parquet.schema_arrow


def read_part(part: Location, is_wanted: Callable[[pa.Field], bool]) -> pa.Table:
    """The rows of a part, with the columns that are wanted. Raises OSError."""
    with part.open() as file, pq.ParquetFile(file) as parquet:
        return parquet.read([field.name for field in parquet.schema_arrow if is_wanted(field)])


def read_whole_part(part: Location) -> tuple[pa.Table, CommitRecord]:
    """All rows of a part, and its commit record, both of one version of it. Raises OSError."""
    rows = pq.read_table(pa.BufferReader(part.read()))
    return rows, _record(rows.schema.metadata)


def read_committed(part: Location) -> Committed | None:
    """What is in a part, without its rows; None if there is no such part. Raises OSError."""
    try:
        with part.open() as file:
            stamp = stamp_of(file)
            meta = pq.read_metadata(file)
    except FileNotFoundError:
        return None
    return committed_of(_record(meta.metadata), meta.num_rows, stamp)


def commit_record(
    run: Mapping[str, object], unit: Mapping[str, Any], outcomes: Mapping[str, int], duplicates: int
) -> CommitRecord:
    """What a part says of itself.

    Args:
        run: The record of the run that wrote it.
        unit: The unit's id and index, its files and rows of them.
        outcomes: Rows by outcome.
        duplicates: Rows that took the results of an identical one.
    """
    return {
        "format": FORMAT,
        "run": run,
        "unit": unit,
        "outcomes": outcomes,
        "duplicates": duplicates,
    }


def committed_of(record: CommitRecord, rows: int, stamp: str) -> Committed:
    """What a commit record says of a version of a part with so many rows."""
    unit, outcomes, duplicates = record["unit"], record["outcomes"], record["duplicates"]
    return Committed(unit["id"], rows, outcomes, duplicates, stamp, unit.get("index"))


def save_part(
    part: Location,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    record: CommitRecord,
    *,
    replaces: str | None,
) -> bool:
    """Write a part, whole or not at all.

    Args:
        part: The file.
        schema: Its columns.
        tables: Its rows in order, in tables of that schema.
        record: Its commit record.
        replaces: Stamp of the version of the part that it replaces; None if there is none.

    Returns:
        Whether this call wrote it. If not, the part exists already or is not that version any more;
        or it was written and the store's reply was lost.

    Raises:
        OSError: It cannot be written.
        ValueError: It is too large for one PUT.
    """
    metadata = {**(schema.metadata or {}), METADATA_KEY: json.dumps(record).encode()}
    with draft_for(part) as draft:
        with pq.ParquetWriter(draft, schema.with_metadata(metadata)) as writer:
            for table in _sized(tables):
                writer.write_table(table)
        return create_from(draft, part) if replaces is None else replace_from(draft, part, replaces)


def _record(metadata: Mapping[bytes, bytes]) -> CommitRecord:
    record: CommitRecord = json.loads(metadata[METADATA_KEY])
    return record


def _sized(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Small tables joined to ones of about `ROW_GROUP_BYTES`."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(piece.nbytes for piece in held) >= ROW_GROUP_BYTES:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)
