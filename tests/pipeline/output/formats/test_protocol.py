"""The protocol's promises in every format but parquet, whose are `test_commit`'s."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.output import parts as parts_module
from pipeline.output.commit import NewParts, PatchedParts
from pipeline.output.formats import FORMATS
from pipeline.output.journal import OF_RETRIES, Journal
from pipeline.output.parts import Committed, open_parts, read_committed, read_part, read_whole_part
from pipeline.sources.units import Unit, Work
from pipeline.storage.location import Location
from tests.pipeline.output.samples import (
    RESULTS,
    ROWS,
    Input,
    entries,
    failed,
    fill,
    new_parts,
    parts,
    source,
)
from tests.stores import new_folder

__all__ = ["source"]


@pytest.fixture(params=["disk", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty OUTPUT; `test_commit` has all stores."""
    return new_folder(request, tmp_path / "out")


@pytest.fixture(params=[name for name in FORMATS if name != "parquet"])
def units(request: pytest.FixtureRequest, source: Input) -> list[Unit]:
    """The two units, with parts of each format."""
    suffix = FORMATS[request.param].suffix
    return [replace(u, part=u.part.replace(".parquet", suffix)) for u in source.units]


def texts(output: Location) -> list[str]:
    found: list[str] = open_parts(output).to_table()["text"].to_pylist()
    return found


def test_parts_have_every_row_once_in_order(
    source: Input, units: list[Unit], output: Location
) -> None:
    commits = new_parts(output, source)
    for piece in reversed(units):
        fill(commits.journal, piece)
        assert commits.commit(Work(piece)) == Committed(piece.id, ROWS, {"ok": ROWS}, 0)
        assert commits.is_committed(Work(piece))
        assert commits.commit(Work(piece)).unit_id == piece.id  # may be repeated
    assert parts(output) == [piece.part for piece in units]
    table = open_parts(output).to_table()
    assert table["n"].to_pylist() == [*range(2 * ROWS)]
    assert table["text"].to_pylist() == [f"t{p}" for p in range(ROWS)] * 2
    assert (table.schema.field("n").type, len({*table["row_key"].to_pylist()})) == (
        pa.int16(),
        2 * ROWS,
    )


def test_of_several_that_commit_at_once_one_wins(
    source: Input, units: list[Unit], output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has other answers and its own record; the part's is that of whoever won."""
    piece = units[0]
    barrier = threading.Barrier(4)
    create_from = parts_module.create_from

    def together(draft: str, where: Location) -> bool:
        barrier.wait(20)
        return create_from(draft, where)

    monkeypatch.setattr(parts_module, "create_from", together)
    commits = [
        NewParts(
            journal=Journal(output, RESULTS, f"journal-{run}"),
            source=source.source,
            run={"id": f"run {run}"},
        )
        for run in range(4)
    ]
    for commit in commits:
        fill(commit.journal, piece, f"{commit.run['id']} ")
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda commit: commit.commit(Work(piece)), commits)]
    assert {committed.unit_id for committed in found} == {piece.id}
    assert parts(output) == [piece.part]
    rows, record = read_whole_part(output / piece.part)
    assert rows["text"].to_pylist() == [f"{record['run']['id']} {p}" for p in range(ROWS)]


def test_a_kill_before_the_part_is_there_leaves_none(
    source: Input, units: list[Unit], output: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits, piece = new_parts(output, source), units[0]
    fill(commits.journal, piece)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(parts_module, "create_from", crash)
        with pytest.raises(KeyboardInterrupt):
            commits.commit(Work(piece))
    assert read_committed(output / piece.part) is None
    commits.journal.append(piece.id, entries([3], "other"))  # answered anew by the next run
    assert commits.commit(Work(piece)).rows == ROWS
    assert len(texts(output)) == ROWS


def test_a_part_is_taken_over_in_one_step(
    source: Input, units: list[Unit], output: Location
) -> None:
    old, other = units
    new = replace(other, index=7, part=old.part, replaces=0, ancestors=(old.id,))
    commits = new_parts(output, source)
    for piece, text in ((old, "old"), (new, "new")):
        fill(commits.journal, piece, text)
        assert commits.commit(Work(piece)).unit_id == piece.id
        assert texts(output) == [f"{text}{p}" for p in range(ROWS)]
    fill(commits.journal, old, "stale")
    assert commits.commit(Work(old)).unit_id == new.id
    assert texts(output)[0] == "new0"


def test_a_retry_replaces_rows(source: Input, units: list[Unit], output: Location) -> None:
    commits, piece = new_parts(output, source), units[0]
    commits.journal.append(piece.id, entries([0, 1, 2, 4, 5, 6, 8, 9]))
    commits.journal.append(piece.id, failed([3, 7]))
    assert commits.commit(Work(piece)).outcomes == {"ok": 8, "decode_error": 2}
    errors = read_part(output / piece.part, lambda field: field.name == "error")
    assert errors["error"].to_pylist()[2:4] == [None, "decode: x"]

    patching = PatchedParts(journal=Journal(output, RESULTS, OF_RETRIES), run={"id": "retry"})
    patching.journal.append(piece.id, entries([3, 7], "again"))
    done = patching.commit(Work(piece, (3, 7)))
    assert done == Committed(piece.id, ROWS, {"ok": ROWS}, 0)
    assert texts(output)[2:4] == ["t2", "again3"]
    assert open_parts(output).to_table()["error"].null_count == ROWS
