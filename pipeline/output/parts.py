"""A part: one unit's rows as a file of OUTPUT. Nothing else reads or writes parts.

Decides their names, that one is written whole or not at all, and what its commit record says. How
rows are written in a file, and where in it that record lies, the part's format decides (`formats`),
which its name tells. The rest of the pipeline hands over Arrow tables and gets Arrow tables back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FSSpecHandler, PyFileSystem

from pipeline.output.formats import FORMATS, format_of
from pipeline.output.formats.beside import forget_records
from pipeline.output.formats.part_format import CommitRecord
from pipeline.storage.atomic import create_from, draft_for, remove, replace_from
from pipeline.storage.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from ray.data import Dataset

    from pipeline.storage.location import FileInfo

PREFIX = "part-"
DIGITS = 8
NAME = re.compile(rf"{PREFIX}\d{{{DIGITS}}}-\w+\.\w+")
"""What parts of every format are called, also of a later one. Copies that people make are not."""
PAGE_DIGITS = 4
"""Object stores are asked for names by their first digits, 10,000 names at most at a time."""
FORMAT = 2
"""Version of the commit record."""
PARQUET = FORMATS["parquet"].suffix


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


def part_name(index: int, unit_id: str, suffix: str = PARQUET) -> str:
    """The name of a unit's part; names sort in the order of `index`.

    Args:
        index: The unit's index in the plan.
        unit_id: The unit.
        suffix: That of the part's format.
    """
    return f"{PREFIX}{index:0{DIGITS}d}-{unit_id}{suffix}"


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
    pages = range(-(-count // 10 ** (DIGITS - PAGE_DIGITS)))
    digits = [""] if output.is_local else [f"{page:0{PAGE_DIGITS}d}" for page in pages]
    for first in digits:
        yield from (info for info in output.infos(PREFIX + first) if NAME.fullmatch(info.path))


def part_files(output: Location, without: Collection[str] = ()) -> list[str]:
    """Paths of the parts on the output's filesystem, in input order.

    Args:
        output: OUTPUT.
        without: Names of parts that are left out.
    """
    names = sorted(name for name in output.names(PREFIX) if NAME.fullmatch(name))
    return [(output / name).path for name in names if name not in without]


def open_parts(
    output: Location, schema: pa.Schema | None = None, without: Collection[str] = ()
) -> ds.Dataset:
    """All parts as one dataset in input order, which reads when it is asked.

    Of parquet it reads what is asked for; of other formats whole parts, one after the other.

    Args:
        output: OUTPUT.
        schema: The columns; those that a part lacks are null. By default those of the first part.
        without: Names of parts that are left out.
    """
    files = part_files(output, without)
    if all(path.endswith(PARQUET) for path in files):
        filesystem = PyFileSystem(FSSpecHandler(output.fs))
        return ds.dataset(files, schema=schema, filesystem=filesystem, format="parquet")
    filesystem = PyFileSystem(_AsArrow(output.fs))
    return ds.dataset(files, schema=schema, filesystem=filesystem, format="ipc")


def open_parts_in_ray(output: Location) -> Dataset:
    """All parts of an OUTPUT in parquet as a Ray dataset, which reads when it is asked."""
    import ray.data

    filesystem = PyFileSystem(FSSpecHandler(output.fs))
    return ray.data.read_parquet(part_files(output), filesystem=filesystem, partitioning=None)


def part_schema(part: Location) -> pa.Schema:
    """The columns of a part. Raises OSError, UserError."""
    return format_of(part.name).read_schema(part)


def read_part(part: Location, is_wanted: Callable[[pa.Field], bool]) -> pa.Table:
    """The rows of a part, with the columns that are wanted. Raises OSError, UserError."""
    return format_of(part.name).read(part, is_wanted)


def read_whole_part(part: Location) -> tuple[pa.Table, CommitRecord]:
    """All rows of a part, and its commit record, both of one version. Raises OSError, UserError."""
    return format_of(part.name).read_whole(part)


def read_committed(part: Location) -> Committed | None:
    """What is in a part, without its rows; None if there is no such part.

    Raises:
        OSError: It cannot be read.
        UserError: It is not as it was written.
    """
    try:
        record, stamp = format_of(part.name).read_record(part)
    except FileNotFoundError:
        return None
    return committed_of(record, stamp)


def commit_record(
    run: Mapping[str, object],
    unit: Mapping[str, Any],
    outcomes: Mapping[str, int],
    duplicates: int,
    answer: str | None = None,
) -> CommitRecord:
    """What a part says of itself.

    Args:
        run: The record of the run that wrote it.
        unit: The unit's id and index, its files and rows of them.
        outcomes: Rows by outcome; every row has one.
        duplicates: Rows that took the results of an identical one.
        answer: The column of the rows' answers; None if there is none.
    """
    return {
        "format": FORMAT,
        "run": run,
        "unit": unit,
        "outcomes": outcomes,
        "duplicates": duplicates,
        "answer": answer,
    }


def committed_of(record: CommitRecord, stamp: str) -> Committed:
    """What a commit record says of a version of a part."""
    unit, outcomes, duplicates = record["unit"], record["outcomes"], record["duplicates"]
    rows = sum(outcomes.values())
    return Committed(unit["id"], rows, outcomes, duplicates, stamp, unit.get("index"))


def save_part(
    part: Location,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    record: CommitRecord,
    *,
    replaces: str | None,
) -> bool:
    """Write a part, whole or not at all, in the format that its name tells.

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
    with draft_for(part) as draft:
        format_of(part.name).write(draft, part, schema, tables, record)
        return create_from(draft, part) if replaces is None else replace_from(draft, part, replaces)


def remove_part(part: Location) -> None:
    """Delete a part and what lies beside it, unless they are gone already. Raises OSError."""
    remove(part)
    forget_records(part)


class _AsArrow(FSSpecHandler):  # type: ignore[misc]
    """A filesystem on which a part, whatever its format, is a file in Arrow's."""

    def open_input_file(self, path: str) -> pa.NativeFile:
        """The rows of a part, with their types, in memory."""
        rows = read_part(Location(self.fs, path), lambda _: True)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        return pa.BufferReader(sink.getvalue())
