"""Writes the next file of a plan, in groups of rows that are small enough to read one unit of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.output.comparison import TAKEN_AWAY
from pipeline.output.parts import part_name
from pipeline.output.pieces import id_of
from pipeline.output.plan import UNITS, plan_folder, plan_metadata
from pipeline.storage.atomic import create_from, draft_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.output.pieces import Entry, Piece
    from pipeline.output.plan import Plan
    from pipeline.sources.units import Cut, Unit
    from pipeline.storage.location import Location

GROUP_UNITS = 1024
GROUP_FILES = 32_768
"""Most units, and about as many of their files, in a row group of a plan file: as many are read to
get one unit."""


def save(
    output: Location,
    plan: Plan | None,
    schema: pa.Schema,
    pieces: Iterable[Piece],
    dropped: list[int],
    commit: str | None,
    suffix: str,
) -> bool:
    """Write the next plan file. Returns whether this call did; if not, another driver was faster.

    Args:
        output: OUTPUT.
        plan: The plan so far.
        schema: The input's columns.
        pieces: The units to add.
        dropped: Indices of units that are obsolete; complete once all pieces were taken. Those of
            pieces that only say that a file was taken away are added.
        commit: The commit of the input's repository, if it lies in one.
        suffix: That of the parts' format.
    """
    number, first = (len(plan.files), len(plan)) if plan else (0, 0)
    where = plan_folder(output) / f"{number:06d}.parquet"
    rows = _rows(pieces, first, suffix, dropped)
    with draft_for(where) as draft:
        with pq.ParquetWriter(draft, UNITS, store_schema=False) as writer:
            for group in _groups(rows):
                writer.write_table(pa.Table.from_pylist(group, schema=UNITS))
            writer.add_key_value_metadata(plan_metadata(schema, dropped, commit))
        return create_from(draft, where)


def _rows(
    pieces: Iterable[Piece], first: int, suffix: str, dropped: list[int]
) -> Iterator[dict[str, Any]]:
    """What a plan file says of pieces; those of files that were taken away are dropped at once."""
    for index, (cut, files, old) in enumerate(pieces, first):
        if not cut.rows and files[0]["tag"] == TAKEN_AWAY:
            dropped.append(index)
        yield _row(index, cut, files, old, suffix)


def _row(index: int, cut: Cut, files: list[Entry], old: Unit | None, suffix: str) -> dict[str, Any]:
    """What a plan file says of a piece, a row of `UNITS`."""
    name = id_of(cut, files)
    return {
        "id": name,
        "part": old.part if old else part_name(index, name, suffix),
        "start": cut.start,
        "stop": cut.stop,
        "offset": cut.offset,
        "replaces": old.index if old else None,
        "files": files,
        "taken": cut.taken,
        "rows": None if cut.taken is None else cut.rows,
    }


def suffix_of(plan: Plan) -> str:
    """That of the parts of a plan, which all have one format."""
    return os.path.splitext(plan.unit(0).part)[1]


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    files = 0
    for row in rows:
        group.append(row)
        files += len(row["files"])
        if len(group) == GROUP_UNITS or files >= GROUP_FILES:
            yield group
            group, files = [], 0
    if group:
        yield group
