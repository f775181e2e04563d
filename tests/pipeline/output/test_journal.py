"""The protocol's promises: once, whole, in order; whatever is repeated, raced or interrupted."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.contract.errors import RunError
from pipeline.output import journal as journal_module
from pipeline.output.journal import METADATA_KEY, Committed, Journal, entry_schema
from pipeline.output.plan import extended
from pipeline.sources import Source, list_input, open_source
from pipeline.sources.units import Unit
from pipeline.storage.atomic import overwrite
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


def journal_in(output: Location, run: str = "run-1", room: str = "journal") -> Journal:
    return Journal(output, RESULTS, {"id": run}, room)


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


def like(pairs: Mapping[int, int]) -> pa.Table:
    """Entries that equal another row."""
    rows = [{"position": row, "same_as": other} for row, other in pairs.items()]
    return pa.Table.from_pylist(rows, schema=entry_schema(RESULTS))


def fill(journal: Journal, unit: Unit, text: str = "t") -> None:
    """All rows of a unit, in pieces and out of order."""
    for positions in ([7, 3, 9], [0], [1, 2, 8, 4], [6, 5]):
        journal.append(unit.id, entries(positions, text))


def committed(unit: Unit, *, by_us: bool = True) -> Committed:
    return Committed(unit.id, ROWS, {"ok": ROWS}, 0, by_us=by_us)


def read(output: Location) -> pa.Table:
    return pa.concat_tables(
        pq.read_table(pa.BufferReader((output / name).read())) for name in parts(output)
    )


def parts(output: Location) -> list[str]:
    return sorted(output.names("part-"))


def test_a_part_has_every_row_once_in_input_order(source: Input, output: Location) -> None:
    journal = journal_in(output)
    first, second = source.units
    for piece in (second, first):  # whichever is complete first
        fill(journal, piece)
        assert journal.commit(piece, source.source) == committed(piece)
    table = read(output)
    assert table["n"].to_pylist() == [*range(2 * ROWS)]
    assert table["text"].to_pylist() == [f"t{p}" for p in range(ROWS)] * 2
    assert table["row_key"].to_pylist()[:2] == [f"{first.id}-00000000", f"{first.id}-00000001"]
    assert len({*table["row_key"].to_pylist()}) == 2 * ROWS
    assert table.schema.field("n").type == pa.int16()
    assert "raw" not in table.column_names
    assert [info.path for info in output.tree()] == parts(output)  # its journal is gone


def test_rows_that_were_written_twice_are_kept_once(source: Input, output: Location) -> None:
    journal = journal_in(output)
    piece = source.units[0]
    fill(journal, piece)
    fill(journal, piece)
    journal.append(piece.id, entries([4], "again"))
    assert journal.commit(piece, source.source).rows == ROWS
    assert read(output)["n"].to_pylist() == [*range(ROWS)]


def test_rows_take_the_results_of_those_they_equal(source: Input, output: Location) -> None:
    journal, piece = journal_in(output), source.units[0]
    journal.append(piece.id, entries([0, 1, 2, 3, 4]))
    journal.append(piece.id, like({5: 2, 6: 0, 8: 2}))
    journal.append(piece.id, like({7: 5, 9: 7}))  # of a driver that found row 5 finished
    assert journal.commit(piece, source.source) == Committed(
        piece.id, ROWS, {"ok": ROWS}, 5, by_us=True
    )
    expected = ["t0", "t1", "t2", "t3", "t4", "t2", "t0", "t2", "t2", "t2"]
    assert read(output)["text"].to_pylist() == expected


def test_a_row_that_was_computed_goes_before_one_that_was_not(
    source: Input, output: Location
) -> None:
    journal, piece = journal_in(output), source.units[0]
    journal.append(piece.id, like({5: 2}))
    fill(journal, piece)
    journal.append(piece.id, like({7: 1}))
    assert journal.commit(piece, source.source).duplicates == 0
    assert read(output)["text"].to_pylist() == [f"t{p}" for p in range(ROWS)]


def test_a_row_whose_other_is_missing_is_missing_itself(source: Input, output: Location) -> None:
    journal, piece = journal_in(output), source.units[0]
    journal.append(piece.id, entries([0, 1, 2, 3, 4, 5, 6, 7]))
    journal.append(piece.id, like({8: 9}))
    with pytest.raises(RunError, match="rows 0-10: 8 of its 10 rows"):
        journal.commit(piece, source.source)


def test_a_unit_with_a_row_missing_is_not_committed(source: Input, output: Location) -> None:
    journal = journal_in(output)
    piece = source.units[0]
    journal.append(piece.id, entries([0, 1, 2, 3, 4, 5, 6, 7, 8]))
    journal.append(piece.id, entries([8]))  # ten rows, nine positions
    with pytest.raises(RunError, match="rows 0-10: 9 of its 10 rows"):
        journal.commit(piece, source.source)
    assert parts(output) == []
    assert journal.begun() == {piece.id: {*range(9)}}


def test_who_commits_second_loses_and_changes_nothing(source: Input, output: Location) -> None:
    piece = source.units[0]
    winner, loser = journal_in(output, "run-1"), journal_in(output, "run-2")
    fill(winner, piece, "won")
    winner.commit(piece, source.source)
    before = (output / parts(output)[0]).read()
    fill(loser, piece, "lost")
    assert loser.commit(piece, source.source) == committed(piece, by_us=False)
    assert (output / parts(output)[0]).read() == before
    assert len(parts(output)) == 1
    assert loser.begun() == {}


def test_the_same_commit_again_is_still_ours(source: Input, output: Location) -> None:
    journal, piece = journal_in(output), source.units[0]
    fill(journal, piece)
    assert journal.commit(piece, source.source) == journal.commit(piece, source.source)


def test_of_several_that_commit_at_once_one_wins(source: Input, output: Location) -> None:
    piece = source.units[0]
    for run in range(6):
        fill(journal_in(output), piece, f"run {run} ")
    journals = [journal_in(output, f"run-{run}") for run in range(6)]
    barrier = threading.Barrier(6)

    def commit(journal: Journal) -> bool:
        entries = journal._write_draft

        def together(*arguments: Any) -> None:
            entries(*arguments)
            barrier.wait(20)  # all have a complete draft now

        object.__setattr__(journal, "_write_draft", together)
        return journal.commit(piece, source.source).by_us

    with ThreadPoolExecutor(6) as pool:
        assert [*pool.map(commit, journals)].count(True) == 1
    assert len(parts(output)) == 1
    assert read(output)["n"].to_pylist() == [*range(ROWS)]


@pytest.mark.parametrize("moment", ["write_table", "create_from"])
def test_a_crash_at_any_moment_leaves_no_part(
    source: Input, output: Location, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, piece = journal_in(output), source.units[0]
    fill(journal, piece)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if moment == "write_table":
            patched.setattr(pq.ParquetWriter, "write_table", crash)
        else:
            patched.setattr(journal_module, moment, crash)
        with pytest.raises(KeyboardInterrupt):
            journal.commit(piece, source.source)
    assert parts(output) == []
    assert journal.commit(piece, source.source).rows == ROWS  # nothing stands in the way


def test_a_spoilt_journal_file_is_passed_over(source: Input, output: Location) -> None:
    journal, piece = journal_in(output), source.units[0]
    for body in (b"", b"PAR1 but not for long"):
        overwrite(journal.folder(piece.id) / f"{len(body)}.parquet", body)
    journal.append(piece.id, entries([0]))
    assert journal.begun() == {piece.id: {0}}
    fill(journal, piece)
    assert journal.commit(piece, source.source).rows == ROWS


def test_an_input_that_shrank_meanwhile_is_not_committed(
    source: Input, output: Location, tmp_path: Path
) -> None:
    journal, piece = journal_in(output), source.units[1]
    fill(journal, piece)
    pq.write_table(
        pa.table({"n": pa.array(range(ROWS + 3), pa.int16())}), tmp_path / "in/a.parquet"
    )
    with pytest.raises(RunError, match="changed while it was read"):
        journal.commit(piece, source.source)
    assert parts(output) == []


def test_a_part_says_what_it_is(source: Input, output: Location) -> None:
    journal, piece = journal_in(output), source.units[1]
    fill(journal, piece)
    journal.commit(piece, source.source)
    schema = pq.read_schema(pa.BufferReader((output / parts(output)[0]).read()))
    body = json.loads(schema.metadata[METADATA_KEY])
    assert body["run"] == {"id": "run-1"}
    assert body["unit"] == {"id": piece.id, "files": ["a.parquet"], "start": 10, "stop": 20}
    assert (body["outcomes"], body["duplicates"], body["format"]) == ({"ok": 10}, 0, 2)


def test_a_part_is_taken_over_in_one_step(source: Input, output: Location) -> None:
    old, other = source.units
    new = replace(other, index=7, part=old.part, replaces=0)
    journal = journal_in(output)
    for piece, text in ((old, "old"), (new, "new")):
        fill(journal, piece, text)
        assert journal.commit(piece, source.source) == committed(piece)
        assert parts(output) == [old.part]
        assert read(output)["text"].to_pylist() == [f"{text}{p}" for p in range(ROWS)]
    fill(journal, old, "stale")  # a driver that does not know of the change yet
    assert journal.commit(old, source.source).unit_id == new.id
    assert read(output)["text"].to_pylist()[0] == "new0"
