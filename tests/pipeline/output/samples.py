"""Two units of ten rows, and what a run writes about them, for the tests of OUTPUT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.output.commit import NewParts
from pipeline.output.extension import extended
from pipeline.output.journal import Journal, entry_schema
from pipeline.sources import Source, list_input, open_source
from pipeline.sources.units import Unit
from pipeline.storage.location import Location, locate
from tests.stores import STORES, new_folder

RESULTS = pa.schema([pa.field("text", pa.string())])
ROWS = 10


def unit(**fields: Any) -> Unit:
    """A unit with what nobody asks for filled in."""
    base = {"index": 0, "id": "u", "part": "part-00000000-u.parquet", "files": ("f",), "start": 0}
    return Unit(**{**base, **fields})


@dataclass(frozen=True)
class Input:
    """Two units of ten rows each."""

    source: Source
    units: list[Unit]


@pytest.fixture
def source(tmp_path: Path) -> Input:
    folder = tmp_path / "in"
    folder.mkdir()
    table = pa.table({"n": pa.array(range(2 * ROWS), pa.int16()), "raw": [b"x"] * 2 * ROWS})
    pq.write_table(table, folder / "a.parquet")
    listing = list_input(str(folder))
    source = open_source(listing, unit_rows=ROWS, keep_images=False)
    plan = extended(None, locate(str(tmp_path / "elsewhere")), listing, source)
    return Input(source, [plan.unit(0), plan.unit(1)])


@pytest.fixture(params=STORES)
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty OUTPUT on each kind of store."""
    return new_folder(request, tmp_path / "out")


def journal_in(output: Location) -> Journal:
    return Journal(output, RESULTS)


def new_parts(output: Location, source: Input, run: str = "run-1") -> NewParts:
    return NewParts(journal=journal_in(output), source=source.source, run={"id": run})


def entries(positions: Sequence[int], text: str = "t") -> pa.Table:
    rows = [
        {
            "position": p,
            "text": f"{text}{p}",
            "outcome": "ok",
            "prompt_tokens": 3,
            "output_tokens": 1,
        }
        for p in positions
    ]
    return pa.Table.from_pylist(rows, schema=entry_schema(RESULTS))


def failed(positions: Sequence[int]) -> pa.Table:
    """Entries of rows without results."""
    rows = [{"position": p, "outcome": "decode_error", "error": "decode: x"} for p in positions]
    return pa.Table.from_pylist(rows, schema=entry_schema(RESULTS))


def like(pairs: Mapping[int, int]) -> pa.Table:
    """Entries that equal another row."""
    rows = [{"position": row, "same_as": other} for row, other in pairs.items()]
    return pa.Table.from_pylist(rows, schema=entry_schema(RESULTS))


def fill(journal: Journal, unit: Unit, text: str = "t") -> None:
    """All rows of a unit, in pieces and out of order."""
    for positions in ([7, 3, 9], [0], [1, 2, 8, 4], [6, 5]):
        journal.append(unit.id, entries(positions, text))


def parts(output: Location) -> list[str]:
    return sorted(output.names("part-"))


def read(output: Location) -> pa.Table:
    return pa.concat_tables(
        pq.read_table(pa.BufferReader((output / name).read())) for name in parts(output)
    )
