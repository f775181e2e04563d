"""The protocol's promises: once, whole, in order; whatever is repeated, raced or interrupted."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.contract.errors import RunError
from pipeline.output import parts as parts_module
from pipeline.output.commit import TRIES, PatchedParts
from pipeline.output.formats.parquet import METADATA_KEY
from pipeline.output.journal import OF_RETRIES, Journal, entry_schema
from pipeline.output.parts import Committed, read_committed
from pipeline.sources.units import Unit, Work
from pipeline.storage.atomic import overwrite, remove
from pipeline.storage.location import Location
from tests.pipeline.output.samples import (
    RESULTS,
    ROWS,
    Input,
    entries,
    failed,
    fill,
    like,
    new_parts,
    output,
    parts,
    read,
    source,
)

__all__ = ["output", "source"]


def committed(unit: Unit) -> Committed:
    return Committed(unit.id, ROWS, {"ok": ROWS}, 0)


def record_in(output: Location, part: str) -> dict[str, object]:
    schema = pq.read_schema(pa.BufferReader((output / part).read()))
    record: dict[str, object] = json.loads(schema.metadata[METADATA_KEY])
    return record


def test_a_part_has_every_row_once_in_input_order(source: Input, output: Location) -> None:
    commits = new_parts(output, source)
    first, second = source.units
    for piece in (second, first):  # whichever is complete first
        assert not commits.is_committed(Work(piece))
        fill(commits.journal, piece)
        assert commits.commit(Work(piece)) == committed(piece)
        assert commits.is_committed(Work(piece))
    table = read(output)
    assert table["n"].to_pylist() == [*range(2 * ROWS)]
    assert table["text"].to_pylist() == [f"t{p}" for p in range(ROWS)] * 2
    assert table["row_key"].to_pylist()[:2] == [f"{first.id}-00000000", f"{first.id}-00000001"]
    assert len({*table["row_key"].to_pylist()}) == 2 * ROWS
    assert table.schema.field("n").type == pa.int16()
    assert "raw" not in table.column_names
    assert [info.path for info in output.tree()] == parts(output)  # its journal is gone


def test_rows_that_were_written_twice_are_kept_once(source: Input, output: Location) -> None:
    commits = new_parts(output, source)
    piece = source.units[0]
    fill(commits.journal, piece)
    fill(commits.journal, piece)
    commits.journal.append(piece.id, entries([4], "again"))
    assert commits.commit(Work(piece)).rows == ROWS
    assert read(output)["n"].to_pylist() == [*range(ROWS)]


def test_rows_take_the_results_of_those_they_equal(source: Input, output: Location) -> None:
    commits, piece = new_parts(output, source), source.units[0]
    commits.journal.append(piece.id, entries([0, 1, 2, 3, 4]))
    commits.journal.append(piece.id, like({5: 2, 6: 0, 8: 2}))
    commits.journal.append(piece.id, like({7: 5, 9: 7}))  # of a driver that found row 5 finished
    assert commits.commit(Work(piece)) == Committed(piece.id, ROWS, {"ok": ROWS}, 5)
    expected = ["t0", "t1", "t2", "t3", "t4", "t2", "t0", "t2", "t2", "t2"]
    assert read(output)["text"].to_pylist() == expected


def test_a_row_that_was_computed_is_preferred_to_one_that_was_not(
    source: Input, output: Location
) -> None:
    commits, piece = new_parts(output, source), source.units[0]
    commits.journal.append(piece.id, like({5: 2}))
    fill(commits.journal, piece)
    commits.journal.append(piece.id, like({7: 1}))
    assert commits.commit(Work(piece)).duplicates == 0
    assert read(output)["text"].to_pylist() == [f"t{p}" for p in range(ROWS)]


def test_a_row_whose_other_is_missing_is_missing_itself(source: Input, output: Location) -> None:
    commits, piece = new_parts(output, source), source.units[0]
    commits.journal.append(piece.id, entries([0, 1, 2, 3, 4, 5, 6, 7]))
    commits.journal.append(piece.id, like({8: 9}))
    with pytest.raises(RunError, match="rows 0-10: 8 of its 10 rows"):
        commits.commit(Work(piece))


def test_a_unit_with_a_row_missing_is_not_committed(source: Input, output: Location) -> None:
    commits = new_parts(output, source)
    piece = source.units[0]
    commits.journal.append(piece.id, entries([0, 1, 2, 3, 4, 5, 6, 7, 8]))
    commits.journal.append(piece.id, entries([8]))  # ten rows, nine positions
    with pytest.raises(RunError, match="rows 0-10: 9 of its 10 rows"):
        commits.commit(Work(piece))
    assert parts(output) == []
    assert commits.journal.begun() == {piece.id: {*range(9)}}


def test_who_commits_second_changes_nothing(source: Input, output: Location) -> None:
    piece = source.units[0]
    winner, loser = new_parts(output, source, "run-1"), new_parts(output, source, "run-2")
    fill(winner.journal, piece, "won")
    winner.commit(Work(piece))
    before = (output / parts(output)[0]).read()
    fill(loser.journal, piece, "lost")
    assert loser.commit(Work(piece)) == committed(piece)
    assert (output / parts(output)[0]).read() == before
    assert len(parts(output)) == 1
    assert loser.journal.begun() == {}


def test_a_commit_may_be_repeated(source: Input, output: Location) -> None:
    commits, work = new_parts(output, source), Work(source.units[0])
    fill(commits.journal, work.unit)
    assert commits.commit(work) == commits.commit(work)


def test_of_several_that_commit_at_once_one_wins(
    source: Input, output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = source.units[0]
    for run in range(6):
        fill(new_parts(output, source).journal, piece, f"run {run} ")
    barrier = threading.Barrier(6)
    create_from = parts_module.create_from
    created: list[bool] = []

    def together(draft: str, where: Location) -> bool:
        barrier.wait(20)  # all have a complete draft now
        created.append(create_from(draft, where))
        return created[-1]

    monkeypatch.setattr(parts_module, "create_from", together)
    commits = [new_parts(output, source, f"run-{run}") for run in range(6)]
    with ThreadPoolExecutor(6) as pool:
        found = [*pool.map(lambda commit: commit.commit(Work(piece)), commits)]
    assert found == [committed(piece)] * 6
    assert sorted(created) == [False] * 5 + [True]
    assert len(parts(output)) == 1
    assert read(output)["n"].to_pylist() == [*range(ROWS)]


@pytest.mark.parametrize("moment", ["write_table", "create_from"])
def test_a_crash_at_any_moment_leaves_no_part(
    source: Input, output: Location, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits, piece = new_parts(output, source), source.units[0]
    fill(commits.journal, piece)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if moment == "write_table":
            patched.setattr(pq.ParquetWriter, "write_table", crash)
        else:
            patched.setattr(parts_module, moment, crash)
        with pytest.raises(KeyboardInterrupt):
            commits.commit(Work(piece))
    assert parts(output) == []
    assert commits.commit(Work(piece)).rows == ROWS  # nothing stands in the way


def test_a_damaged_journal_file_is_ignored(source: Input, output: Location) -> None:
    commits, piece = new_parts(output, source), source.units[0]
    overwrite(commits.journal.folder(piece.id) / "x.parquet", b"PAR1 but not for long")
    fill(commits.journal, piece)
    assert commits.commit(Work(piece)).rows == ROWS


def test_an_input_that_shrank_meanwhile_is_not_committed(
    source: Input, output: Location, tmp_path: Path
) -> None:
    commits, piece = new_parts(output, source), source.units[1]
    fill(commits.journal, piece)
    pq.write_table(
        pa.table({"n": pa.array(range(ROWS + 3), pa.int16())}), tmp_path / "in/a.parquet"
    )
    with pytest.raises(RunError, match="changed while it was read"):
        commits.commit(Work(piece))
    assert parts(output) == []


def test_an_input_that_was_rewritten_meanwhile_is_not_committed(
    source: Input, output: Location, tmp_path: Path
) -> None:
    """With as many rows, whose columns would stand beside the answers of others."""
    commits, piece = new_parts(output, source), source.units[0]
    fill(commits.journal, piece)
    table = pa.table({"n": pa.array(range(2 * ROWS), pa.int16()), "raw": [b"y"] * 2 * ROWS})
    pq.write_table(table, tmp_path / "in/a.parquet")
    with pytest.raises(RunError, match="changed while it was read"):
        commits.commit(Work(piece))
    assert parts(output) == []


def test_a_part_says_what_it_is(source: Input, output: Location) -> None:
    commits, piece = new_parts(output, source), source.units[1]
    fill(commits.journal, piece)
    commits.commit(Work(piece))
    body = record_in(output, piece.part)
    assert body["run"] == {"id": "run-1"}
    rows = {"files": ["a.parquet"], "start": 10, "stop": 20}
    assert body["unit"] == {"id": piece.id, "index": 1, **rows}
    assert (body["outcomes"], body["duplicates"], body["format"]) == ({"ok": 10}, 0, 2)
    assert read_committed(output / piece.part) == committed(piece)
    assert read_committed(output / "part-00000009-absent.parquet") is None


def test_a_part_is_taken_over_in_one_step(source: Input, output: Location) -> None:
    old, other = source.units
    new = replace(other, index=7, part=old.part, replaces=0, ancestors=(old.id,))
    commits = new_parts(output, source)
    for piece, text in ((old, "old"), (new, "new")):
        fill(commits.journal, piece, text)
        assert commits.commit(Work(piece)) == committed(piece)
        assert parts(output) == [old.part]
        assert read(output)["text"].to_pylist() == [f"{text}{p}" for p in range(ROWS)]
    fill(commits.journal, old, "stale")  # a driver that does not know of the change yet
    assert commits.commit(Work(old)).unit_id == new.id
    assert read(output)["text"].to_pylist()[0] == "new0"
    assert (commits.is_committed(Work(old)), commits.is_committed(Work(new))) == (False, True)


def test_only_what_a_unit_replaces_is_replaced(source: Input, output: Location) -> None:
    """An input that changed twice, and back again; drivers with plans of every age."""
    commits, (first, second) = new_parts(output, source), source.units
    changed = replace(second, index=2, part=first.part, replaces=0, ancestors=(first.id,))
    third = replace(first, index=3, id="third", replaces=2, ancestors=(second.id, first.id))
    back = replace(first, index=4, replaces=3, ancestors=("third", second.id, first.id))
    for newest, stale in ((third, changed), (back, third), (back, changed)):
        fill(commits.journal, newest, "new")
        assert commits.commit(Work(newest)).unit_id == newest.id
        fill(commits.journal, stale, "stale")
        assert commits.commit(Work(stale)).unit_id == newest.id
        assert read(output)["text"].to_pylist() == [f"new{p}" for p in range(ROWS)]


def test_a_unit_that_nobody_committed_is_skipped_over(source: Input, output: Location) -> None:
    commits, (first, second) = new_parts(output, source), source.units
    fill(commits.journal, first, "old")
    commits.commit(Work(first))
    last = replace(second, index=3, part=first.part, replaces=2, ancestors=("never", first.id))
    fill(commits.journal, last, "new")
    assert commits.commit(Work(last)).unit_id == last.id
    assert read(output)["text"].to_pylist()[0] == "new0"


def test_a_store_that_refuses_every_condition_ends_a_commit(
    partly_failed: Work, source: Input, output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--single-driver` such a store is not refused at the start."""
    refusals: list[str] = []

    def refuse(*asked: object) -> bool:
        refusals.append(str(asked[2]))
        return False

    monkeypatch.setattr(parts_module, "replace_from", refuse)
    new = replace(source.units[1], part=partly_failed.unit.part, ancestors=(partly_failed.unit.id,))
    commits, patching = new_parts(output, source), patches(output)
    fill(commits.journal, new)
    patching.journal.append(partly_failed.unit.id, entries([3, 7]))
    for committer, work in ((commits, Work(new)), (patching, partly_failed)):
        with pytest.raises(RunError, match="could not be replaced: its store refused"):
            committer.commit(work)
    assert len(refusals) == 2 * TRIES


def test_a_retry_of_rows_whose_input_has_changed_patches_nothing(
    partly_failed: Work, source: Input, output: Location
) -> None:
    old = partly_failed.unit
    new = replace(source.units[1], index=2, part=old.part, replaces=0, ancestors=(old.id,))
    commits, patching = new_parts(output, source), patches(output)
    fill(commits.journal, new, "new")
    commits.commit(Work(new))
    patching.journal.append(old.id, entries([3, 7], "stale"))
    with pytest.raises(RunError, match="its input has changed"):
        patching.commit(partly_failed)
    assert read(output)["text"].to_pylist() == [f"new{p}" for p in range(ROWS)]


def patches(output: Location) -> PatchedParts:
    return PatchedParts(journal=Journal(output, RESULTS, OF_RETRIES), run={"id": "retry-1"})


@pytest.fixture
def partly_failed(source: Input, output: Location) -> Work:
    """A unit with a part in which rows 3 and 7 failed; and those rows, to be done again."""
    commits, piece = new_parts(output, source), source.units[0]
    commits.journal.append(piece.id, entries([0, 1, 2, 4, 5, 6]))
    commits.journal.append(piece.id, like({8: 0, 9: 0}))
    commits.journal.append(piece.id, failed([3, 7]))
    commits.commit(Work(piece))
    return Work(piece, (3, 7))


def test_only_the_rows_of_a_patch_change(partly_failed: Work, output: Location) -> None:
    before = read(output).to_pylist()
    commits, part = patches(output), partly_failed.unit.part
    commits.journal.append(partly_failed.unit.id, entries([3], "new "))
    commits.journal.append(partly_failed.unit.id, failed([7]))
    expected = Committed(partly_failed.unit.id, ROWS, {"ok": 9, "decode_error": 1}, 2)
    assert commits.commit(partly_failed) == expected == read_committed(output / part)
    after = read(output).to_pylist()
    assert [row["n"] for row in after] == [*range(ROWS)]
    assert [n for n in range(ROWS) if after[n] != before[n]] == [3]
    assert (after[3]["text"], after[3]["outcome"], after[3]["error"]) == ("new 3", "ok", None)
    body = record_in(output, part)
    assert body["run"] == {"id": "retry-1"}
    unit = partly_failed.unit
    rows = {"files": ["a.parquet"], "start": 0, "stop": 10}
    assert body["unit"] == {"id": unit.id, "index": 0, **rows}
    assert commits.journal.begun() == {}
    assert not commits.is_committed(partly_failed)


def test_of_two_patches_at_once_both_are_kept(
    partly_failed: Work, output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits, unit = patches(output), partly_failed.unit
    replace_from = parts_module.replace_from

    def late(draft: str, where: Location, stamp: str) -> bool:
        monkeypatch.setattr(parts_module, "replace_from", replace_from)
        commits.journal.append(unit.id, entries([7], "rival "))
        commits.commit(Work(unit, (7,)))  # another driver is faster
        commits.journal.append(unit.id, entries([3], "new "))
        return replace_from(draft, where, stamp)

    commits.journal.append(unit.id, entries([3], "new "))
    monkeypatch.setattr(parts_module, "replace_from", late)
    assert commits.commit(Work(unit, (3,))).outcomes == {"ok": ROWS}
    texts = read(output)["text"].to_pylist()
    assert (texts[3], texts[7]) == ("new 3", "rival 7")


def test_a_row_that_fails_as_a_whole_keeps_what_it_had_in_part(
    source: Input, output: Location
) -> None:
    """Of one result that failed of several, say: the row is a failure with results."""
    commits, piece = new_parts(output, source), source.units[0]
    in_part = [
        {**row, "outcome": "wrong_language"} for row in entries([3, 7], "in part ").to_pylist()
    ]
    commits.journal.append(piece.id, entries([0, 1, 2, 4, 5, 6, 8, 9]))
    commits.journal.append(piece.id, pa.Table.from_pylist(in_part, schema=entry_schema(RESULTS)))
    commits.commit(Work(piece))
    retry = patches(output)
    retry.journal.append(piece.id, failed([3]))
    retry.journal.append(piece.id, entries([7], "fixed "))
    assert retry.commit(Work(piece, (3, 7))).outcomes == {"ok": 9, "wrong_language": 1}
    rows = read(output).to_pylist()
    assert (rows[3]["text"], rows[3]["outcome"]) == ("in part 3", "wrong_language")
    assert rows[7]["text"] == "fixed 7"


def test_a_patch_with_a_row_missing_changes_nothing(partly_failed: Work, output: Location) -> None:
    before = (output / partly_failed.unit.part).read()
    commits = patches(output)
    commits.journal.append(partly_failed.unit.id, entries([3]))
    with pytest.raises(RunError, match="rows 0-10: 1 rows were not finished"):
        commits.commit(partly_failed)
    assert (output / partly_failed.unit.part).read() == before
    remove(output / partly_failed.unit.part)
    with pytest.raises(RunError, match="is gone; run the job again"):
        commits.commit(partly_failed)


def test_a_patch_takes_no_results_away(partly_failed: Work, output: Location) -> None:
    """Of a retry that looked for failed rows before another one had fixed them."""
    first, second, unit = patches(output), patches(output), partly_failed.unit
    first.journal.append(unit.id, entries([3, 7], "fixed "))
    assert first.commit(partly_failed).outcomes == {"ok": ROWS}
    second.journal.append(unit.id, failed([3]))
    second.journal.append(unit.id, entries([7], "again "))
    assert second.commit(partly_failed).outcomes == {"ok": ROWS}
    texts = read(output)["text"].to_pylist()
    assert (texts[3], texts[7]) == ("fixed 3", "again 7")
