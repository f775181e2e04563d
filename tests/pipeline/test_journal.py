"""The protocol's promises: once, whole, in order; whatever is repeated, raced or interrupted."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline import journal as journal_module
from pipeline.errors import RunError
from pipeline.journal import METADATA_KEY, Committed, Journal, entry_schema
from pipeline.sources import Source, open_source
from pipeline.storage import locate
from pipeline.units import Unit

RESULTS = pa.schema([pa.field("text", pa.string())])
ROWS = 10


@pytest.fixture
def source(tmp_path: Path) -> Source:
    folder = tmp_path / "in"
    folder.mkdir()
    table = pa.table({"n": pa.array(range(2 * ROWS), pa.int16()), "raw": [b"x"] * 2 * ROWS})
    pq.write_table(table, folder / "a.parquet")
    return open_source(locate(str(folder)), unit_rows=ROWS, keep_images=False)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def journal_in(output: Path, run: str = "run-1") -> Journal:
    return Journal(str(output), RESULTS, {"id": run})


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


def fill(journal: Journal, unit: Unit, text: str = "t") -> None:
    """All rows of a unit, in pieces and out of order."""
    for positions in ([7, 3, 9], [0], [1, 2, 8, 4], [6, 5]):
        journal.append(unit.id, entries(positions, text))


def parts(output: Path) -> list[str]:
    return sorted(path.name for path in output.glob("*.parquet"))


def test_a_part_has_every_row_once_in_input_order(source: Source, output: Path) -> None:
    journal = journal_in(output)
    first, second = source.units()
    for unit in (second, first):  # whichever is complete first
        fill(journal, unit)
        assert journal.commit(unit, source) == Committed(unit.id, ROWS, {"ok": ROWS}, by_us=True)
    table = ds.dataset(output).to_table()
    assert table["n"].to_pylist() == [*range(2 * ROWS)]
    assert table["text"].to_pylist() == [f"t{p}" for p in range(ROWS)] * 2
    assert table["row_key"].to_pylist()[:2] == [f"{first.id}-00000000", f"{first.id}-00000001"]
    assert len({*table["row_key"].to_pylist()}) == 2 * ROWS
    assert table.schema.field("n").type == pa.int16()
    assert "raw" not in table.column_names
    assert not list((output / "_gemma3_batch").rglob("*.*"))  # its journal is gone


def test_rows_that_were_written_twice_are_kept_once(source: Source, output: Path) -> None:
    journal = journal_in(output)
    unit = source.units()[0]
    fill(journal, unit)
    fill(journal, unit)
    journal.append(unit.id, entries([4], "again"))
    assert journal.commit(unit, source).rows == ROWS
    assert ds.dataset(output).to_table()["n"].to_pylist() == [*range(ROWS)]


def test_a_unit_with_a_row_missing_is_not_committed(source: Source, output: Path) -> None:
    journal = journal_in(output)
    unit = source.units()[0]
    journal.append(unit.id, entries([0, 1, 2, 3, 4, 5, 6, 7, 8]))
    journal.append(unit.id, entries([8]))  # ten rows, nine positions
    with pytest.raises(RunError, match="rows 0-10: 9 of its 10 rows"):
        journal.commit(unit, source)
    assert parts(output) == []


def test_who_commits_second_loses_and_changes_nothing(source: Source, output: Path) -> None:
    unit = source.units()[0]
    winner, loser = journal_in(output, "run-1"), journal_in(output, "run-2")
    fill(winner, unit, "won")
    winner.commit(unit, source)
    before = (output / parts(output)[0]).read_bytes()
    fill(loser, unit, "lost")
    assert loser.commit(unit, source) == Committed(unit.id, ROWS, {"ok": ROWS}, by_us=False)
    assert (output / parts(output)[0]).read_bytes() == before
    assert len(parts(output)) == 1


def test_the_same_commit_again_is_still_ours(source: Source, output: Path) -> None:
    journal, unit = journal_in(output), source.units()[0]
    fill(journal, unit)
    assert journal.commit(unit, source) == journal.commit(unit, source)


def _commit(output: Path, source: Source, run: str, start: Any, answers: Any) -> None:
    journal, unit = journal_in(output, run), source.units()[0]
    draft = journal._write_draft(unit, source)
    start.wait()
    answers.put((run, journal_module.create_exclusively(draft, journal.part_path(unit))))


def test_of_several_that_commit_at_once_one_wins(source: Source, output: Path) -> None:
    fill(journal_in(output), source.units()[0])
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(4), context.Queue()
    runs = [f"run-{i}" for i in range(4)]
    racers = [
        context.Process(target=_commit, args=(output, source, run, start, answers)) for run in runs
    ]
    for racer in racers:
        racer.start()
    won = dict(answers.get(timeout=30) for _ in racers)
    for racer in racers:
        racer.join()
    assert sorted(won.values()) == [False, False, False, True]
    (part,) = parts(output)
    body = json.loads(pq.read_metadata(output / part).metadata[METADATA_KEY])
    assert won[body["run"]["id"]]


@pytest.mark.parametrize("moment", ["write_table", "sync_file", "create_exclusively"])
def test_a_crash_at_any_moment_leaves_no_part(
    source: Source, output: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, unit = journal_in(output), source.units()[0]
    fill(journal, unit)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if moment == "write_table":
            patched.setattr(pq.ParquetWriter, "write_table", crash)
        else:
            patched.setattr(journal_module, moment, crash)
        with pytest.raises(KeyboardInterrupt):
            journal.commit(unit, source)
    assert parts(output) == []
    assert journal.commit(unit, source).rows == ROWS  # and nothing stands in the way of the next


def test_a_journal_file_is_there_whole_or_not_at_all(
    source: Source, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, unit = journal_in(output), source.units()[0]
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            journal.append(unit.id, entries([0]))
    fill(journal, unit)
    assert journal.commit(unit, source).rows == ROWS


def test_an_input_that_shrank_meanwhile_is_not_committed(
    source: Source, output: Path, tmp_path: Path
) -> None:
    journal, unit = journal_in(output), source.units()[1]
    fill(journal, unit)
    pq.write_table(
        pa.table({"n": pa.array(range(ROWS + 3), pa.int16())}), tmp_path / "in/a.parquet"
    )
    with pytest.raises(RunError, match="changed while it was read"):
        journal.commit(unit, source)
    assert parts(output) == []


def test_a_part_says_what_it_is(source: Source, output: Path) -> None:
    journal, unit = journal_in(output), source.units()[1]
    fill(journal, unit)
    journal.commit(unit, source)
    body = json.loads(pq.read_metadata(output / parts(output)[0]).metadata[METADATA_KEY])
    assert body["run"] == {"id": "run-1"}
    assert body["unit"] == {"id": unit.id, "files": ["a.parquet"], "start": 10, "stop": 20}
    assert (body["outcomes"], body["format"]) == ({"ok": 10}, 1)
