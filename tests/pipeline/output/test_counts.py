"""What is done already is found by listing names: a start costs little however much that is."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.output import counts
from pipeline.output.commit import NewParts, PatchedParts
from pipeline.output.counts import committed_units, save_counts, totals
from pipeline.output.extension import extended
from pipeline.output.journal import OF_RETRIES, Journal
from pipeline.output.parts import Committed, list_parts, part_files, read_committed
from pipeline.output.plan import Plan, open_plan
from pipeline.output.status import failed_rows, status
from pipeline.sources import Kind, Listing, list_input, open_source
from pipeline.sources.units import Unit, Work
from pipeline.storage.atomic import overwrite
from pipeline.storage.location import FileInfo, Location, locate
from tests.pipeline.output.samples import RESULTS, Input, entries, failed, fill, output, source
from tests.pipeline.output.test_plan import Endless, units, write
from tests.stores import S3

__all__ = ["output", "source"]


def plan_of(output: Location, units: int, folder: Path) -> Plan:
    (folder / "in").mkdir()
    (folder / "in/x.parquet").write_bytes(b"x")
    listing = Listing(locate(str(folder / "in")), Kind.PARQUET, (FileInfo("x.parquet", 1, "1"),))
    return extended(None, output, listing, Endless(units * 10, 10))  # type: ignore[arg-type]


def part_names(plan: Plan) -> list[str]:
    names: list[str] = []
    for plan_file in plan.files:
        with plan_file.location.open() as file:
            names += pq.read_table(file, columns=["part"])["part"].to_pylist()
    return names


def test_a_start_over_100_000_committed_units_takes_seconds(tmp_path: Path) -> None:
    output = locate(str(tmp_path / "out"))
    names = part_names(plan_of(output, 100_000, tmp_path))
    for name in names[:-2]:
        (tmp_path / "out" / name).touch()
    began = time.monotonic()
    plan = open_plan(output)
    assert plan is not None
    pending = plan.pending(committed_units(plan))
    took = time.monotonic() - began
    assert [plan.unit(int(index)).part for index in pending] == names[-2:]
    assert took < 5


def test_on_s3_a_thousand_units_cost_one_request(tmp_path: Path, s3: S3) -> None:
    output = locate(f"{s3.url}/out")
    names = part_names(plan_of(output, 1_100, tmp_path))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: output.fs.pipe_file(f"{output.path}/{name}", b"x"), names[1:]))
    plan = open_plan(output)
    assert plan is not None
    before = len(s3.requests())
    is_there = committed_units(plan)
    requests = s3.requests()[before:]
    assert is_there.sum() == 1_099
    assert not is_there[0]
    assert len(requests) <= 2, requests


@pytest.fixture
def plan(source: Input, output: Location) -> Plan:
    """The plan of two units of ten rows, on each kind of store; none is committed."""
    return extended(None, output, list_input(source.source.root.path), source.source)


def commit(plan: Plan, source: Input, unit: Unit, *failing: int) -> Committed:
    """Commit a unit some of whose rows failed."""
    parts = NewParts(journal=Journal(plan.output, RESULTS), source=source.source, run={"id": "r"})
    good = [position for position in range(unit.rows) if position not in failing]
    parts.journal.append(unit.id, entries(good))
    parts.journal.append(unit.id, failed([*failing]))
    return parts.commit(Work(unit))


def fix(plan: Plan, unit: Unit, *positions: int) -> Committed:
    """What a retry does with rows of a part."""
    parts = PatchedParts(journal=Journal(plan.output, RESULTS, OF_RETRIES), run={"id": "r"})
    parts.journal.append(unit.id, entries([*positions]))
    return parts.commit(Work(unit, positions))


def test_counts_are_kept_and_a_part_is_opened_once(
    plan: Plan, source: Input, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = source.units
    done = commit(plan, source, first, 3, 7)
    for _ in range(2):  # two drivers may count the same part
        save_counts(plan.output, [(first.part, done)])
    commit(plan, source, second)
    opened: list[str] = []

    def spied(part: Location) -> Committed | None:
        opened.append(part.name)
        return read_committed(part)

    monkeypatch.setattr(counts, "read_committed", spied)
    for saves in (True, False):
        found = totals(plan, saves=saves)
        assert (found.units, found.rows) == (2, 20)
        assert found.outcomes == {"ok": 18, "decode_error": 2}
    assert opened == [second.part]


def test_a_part_that_a_retry_replaced_counts_once_and_as_it_is(plan: Plan, source: Input) -> None:
    unit = source.units[0]
    save_counts(plan.output, [(unit.part, commit(plan, source, unit, 3, 7))])
    assert totals(plan, saves=True).outcomes == {"ok": 8, "decode_error": 2}
    fixed = fix(plan, unit, 3)
    for _ in range(2):  # whether its count is saved or not
        found = totals(plan)
        assert (found.units, found.rows) == (1, 10)
        assert found.outcomes == {"ok": 9, "decode_error": 1}
        save_counts(plan.output, [(unit.part, fixed)])


def test_counts_of_an_earlier_version_are_made_again(plan: Plan, source: Input) -> None:
    unit = source.units[0]
    commit(plan, source, unit, 3)
    old = {"part": [unit.part], "rows": [99], "duplicates": [9], "outcomes": ['{"ok": 99}']}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(old), sink)
    folder = plan.output / "_gemma3_batch/counts"
    overwrite(folder / "old.parquet", sink.getvalue().to_pybytes())
    overwrite(folder / "damaged.parquet", b"PAR1 but not for long")
    assert totals(plan, saves=True).outcomes == {"ok": 9, "decode_error": 1}


def extend(plan: Plan, source: Input) -> Plan:
    listing = list_input(source.source.root.path)
    again = open_source(listing, unit_rows=10, keep_images=False, schema=plan.schema)
    return extended(plan, plan.output, listing, again)


def test_an_input_that_shrank_counts_what_is_in_it(
    plan: Plan, source: Input, tmp_path: Path
) -> None:
    for unit in source.units:
        save_counts(plan.output, [(unit.part, commit(plan, source, unit))])
    assert totals(plan, saves=True).rows == 20
    file = tmp_path / "in/a.parquet"
    pq.write_table(pq.read_table(file).slice(0, 8), file)
    shrunk = extend(plan, source)
    (new,) = units(shrunk)
    assert not committed_units(shrunk).any()
    assert totals(shrunk).rows == 0  # its part still holds the rows of before
    commit(shrunk, source, new)
    assert committed_units(shrunk).tolist() == [False, False, True]
    assert (totals(shrunk).units, totals(shrunk).rows) == (1, 8)


def record(output: Location) -> None:
    body = b'{"task": "t", "started": "2026-01-01T00:00:00+00:00", "format": 2, "config": {}}'
    overwrite(output / "_gemma3_batch/run.json", body)


def test_status_tells_the_rows_of_the_plan_alone(tmp_path: Path, source: Input) -> None:
    output = locate(str(tmp_path / "out"))
    record(output)
    write(tmp_path / "in/b.parquet", 0, 0)  # a file without rows, which then has some
    table = pq.read_table(tmp_path / "in/a.parquet")
    pq.write_table(table.slice(0, 0), tmp_path / "in/b.parquet")
    listing = list_input(source.source.root.path)
    plan = extended(None, output, listing, source.source)
    assert (status(output.path).units_done, status(output.path).units) == (1, 3)
    pq.write_table(table.slice(0, 5), tmp_path / "in/b.parquet")
    plan = extend(plan, source)
    assert (status(output.path).units_done, status(output.path).units) == (0, 3)
    Journal(output, RESULTS).append("of-a-unit-that-is-obsolete", entries([0, 1]))
    pending = [plan.unit(int(index)) for index in plan.pending(committed_units(plan))]
    Journal(output, RESULTS).append(pending[1].id, entries([0, 1, 2]))
    commit(plan, source, pending[0])
    fill(Journal(output, RESULTS), pending[0])  # its driver was killed before it removed them
    found = status(output.path)
    assert (found.units_done, found.units, found.rows_done, found.rows) == (1, 3, 10, 25)
    assert found.rows_journalled == 3


@pytest.mark.parametrize("reads", [0, 1, 2])
def test_status_tells_each_row_once_while_a_run_commits(
    tmp_path: Path, source: Input, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    output = locate(str(tmp_path / "out"))
    record(output)
    plan = extended(None, output, list_input(source.source.root.path), source.source)
    unit = source.units[0]
    fill(Journal(output, RESULTS), unit)
    done = 0

    def committing(read: Callable[..., Any]) -> Callable[..., Any]:
        def spied(*args: Any) -> Any:
            nonlocal done
            found = read(*args)
            done += 1
            if done == reads:
                commit(plan, source, unit)
            return found

        return spied

    monkeypatch.setattr(Journal, "begun", committing(Journal.begun))
    monkeypatch.setattr(counts, "list_parts", committing(lambda *args: [*list_parts(*args)]))
    found = status(output.path)
    assert found.rows_done + found.rows_journalled == unit.rows
    assert found.rows_done == unit.rows * found.units_done
    assert done == 2  # a third read would be another moment


def test_copies_of_parts_are_no_parts(tmp_path: Path, source: Input) -> None:
    output = locate(str(tmp_path / "out"))
    record(output)
    plan = extended(None, output, list_input(source.source.root.path), source.source)
    commit(plan, source, source.units[0], 3)
    (part,) = (tmp_path / "out").glob("part-*")
    for name in (f"{part.stem} (1).parquet", "part-old.parquet", f"{part.name}.bak"):
        shutil.copy(part, part.with_name(name))
    assert status(str(output)).rows_done == 10
    assert part_files(output) == [str(part)]


@pytest.fixture
def read_only(tmp_path: Path, source: Input) -> Iterator[Path]:
    """An OUTPUT of which no count is saved, and which nobody may write to."""
    folder = tmp_path / "out"
    output = locate(str(folder))
    record(output)
    plan = extended(None, output, list_input(source.source.root.path), source.source)
    commit(plan, source, source.units[0], 3)
    paths = [folder, *folder.rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    for path in reversed(paths):
        path.chmod(modes[path] & ~0o222)
    yield folder
    for path, mode in modes.items():
        path.chmod(mode)


def test_status_and_errors_write_nothing(read_only: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [read_only, *read_only.rglob("*")]}
    assert status(str(read_only)).outcomes == {"ok": 9, "decode_error": 1}
    assert sum(table.num_rows for table in failed_rows(str(read_only))) == 1
    after = {path: path.stat().st_mtime_ns for path in [read_only, *read_only.rglob("*")]}
    assert after == before  # of root's too, whom no mode keeps from writing


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_can_be_read(read_only: Path) -> None:
    with pytest.raises(PermissionError):
        (read_only / "x").touch()
    assert status(str(read_only)).rows_done == 10
