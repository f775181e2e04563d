"""Units keep their place whatever happens to the input, and a plan of any length costs little."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.output import comparison, plan_file
from pipeline.output.comparison import compare
from pipeline.output.extension import extended, without_gone
from pipeline.output.plan import Plan, dropped_parts, open_plan
from pipeline.sources import Kind, Listing, list_input, open_source
from pipeline.sources.units import Cut, Unit
from pipeline.storage import file_table, walk
from pipeline.storage.location import FileInfo, Location, locate


def write(path: Path, first: int, rows: int) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"n": [*range(first, first + rows)]}), path)


def planned(folder: Path, output: Path, unit_rows: int = 10) -> Plan:
    """What a run does before it starts."""
    listing = list_input(str(folder))
    where = locate(str(output))
    plan = open_plan(where)
    source = open_source(
        listing, unit_rows=unit_rows, keep_images=False, schema=plan.schema if plan else None
    )
    return extended(plan, where, listing, source)


def units(plan: Plan) -> list[Unit]:
    return [plan.unit(i) for i in range(len(plan)) if plan.is_live[i] and plan.rows[i]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "in/a.parquet", 0, 25)
    write(tmp_path / "in/c.parquet", 25, 7)
    return tmp_path / "in"


def test_the_same_input_gives_the_same_plan_and_no_new_plan_file(
    folder: Path, tmp_path: Path
) -> None:
    first = planned(folder, tmp_path / "out")
    again = planned(folder, tmp_path / "out", unit_rows=3)
    assert units(first) == units(again)
    assert [unit.rows for unit in units(first)] == [8, 8, 9, 7]
    assert len(again.files) == 1
    assert first.total_rows == 32


def test_units_are_known_by_content_wherever_the_input_lies(folder: Path, tmp_path: Path) -> None:
    before = planned(folder, tmp_path / "out")
    shutil.copytree(folder, tmp_path / "moved", copy_function=shutil.copyfile)
    for path in (tmp_path / "moved").iterdir():
        os.utime(path, ns=(1, 1))
    after = planned(tmp_path / "moved", tmp_path / "out")
    assert len(after.files) == 1
    elsewhere = planned(tmp_path / "moved", tmp_path / "other")
    assert [unit.id for unit in units(elsewhere)] == [unit.id for unit in units(before)]


def test_an_added_file_moves_nothing(folder: Path, tmp_path: Path) -> None:
    before = units(planned(folder, tmp_path / "out"))
    write(folder / "b.parquet", 32, 4)
    plan = planned(folder, tmp_path / "out")
    assert units(plan)[: len(before)] == before
    (added,) = units(plan)[len(before) :]
    assert (added.files, added.rows, added.index) == (("b.parquet",), 4, len(before))


def test_a_changed_file_takes_over_its_own_parts(folder: Path, tmp_path: Path) -> None:
    before = units(planned(folder, tmp_path / "out"))
    write(folder / "a.parquet", 100, 14)
    plan = planned(folder, tmp_path / "out")
    after = units(plan)
    assert [unit.files for unit in after] == [("c.parquet",), ("a.parquet",), ("a.parquet",)]
    assert [unit.part for unit in after[1:]] == [before[0].part, before[1].part]
    assert [unit.replaces for unit in after] == [None, 0, 1]
    assert not {unit.id for unit in before[:3]} & {unit.id for unit in after}
    assert dropped_parts(plan) == [before[2].part]
    assert plan.total_rows == 7 + 14
    write(folder / "a.parquet", 200, 35)  # and again, longer than ever
    plan = planned(folder, tmp_path / "out")
    assert [unit.part for unit in units(plan)[1:3]] == [before[0].part, before[1].part]
    assert len({unit.part for unit in units(plan)}) == 1 + 4
    assert plan.total_rows == 7 + 35


def test_a_changed_image_recomputes_its_own_unit(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(b"image %d" % number)
    before = units(planned(folder, tmp_path / "out", unit_rows=3))
    (folder / "0.png").write_bytes(b"another image")
    (folder / "1.png").unlink()
    plan = planned(folder, tmp_path / "out", unit_rows=3)
    unchanged, changed = units(plan)
    assert unchanged == before[1]
    assert changed.files == ("0.png",)
    assert changed.part == before[0].part


def committed(plan: Plan, *wanted: int) -> np.ndarray:
    """[units] bool, as if these units were committed."""
    is_there = np.zeros(len(plan), dtype=bool)
    is_there[[*wanted]] = True
    return is_there


def left_out(plan: Plan, folder: Path, *finished: int) -> tuple[Plan, list[str]]:
    """The plan without what nobody can finish."""
    return without_gone(
        plan, committed(plan, *finished), compare(plan, list_input(str(folder))).gone
    )


def test_units_of_a_file_that_was_taken_away_are_dropped_unless_they_are_done(
    folder: Path, tmp_path: Path
) -> None:
    plan = planned(folder, tmp_path / "out")
    os.rename(folder / "a.parquet", tmp_path / "a.parquet")
    plan, gone = left_out(plan, folder, 1)
    assert gone == ["a.parquet"]
    assert [(unit.index, unit.rows) for unit in units(plan)] == [(1, 8), (3, 7)]
    assert plan.total_rows == 15
    assert left_out(plan, folder, 1)[1] == []  # and once is enough
    assert not compare(plan, list_input(str(folder)))


def test_units_are_dropped_though_the_stores_reply_was_lost(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, create_from = planned(folder, tmp_path / "out"), plan_file.create_from
    os.rename(folder / "a.parquet", tmp_path / "a.parquet")

    def unheard(draft: str, where: Location) -> bool:
        create_from(draft, where)
        return False

    monkeypatch.setattr(plan_file, "create_from", unheard)
    rest, gone = left_out(plan, folder)
    assert gone == ["a.parquet"]
    assert len(rest) > len(plan)  # so what is committed must be counted again


def test_a_file_that_comes_back_is_planned_where_it_was_dropped(
    folder: Path, tmp_path: Path
) -> None:
    before = units(planned(folder, tmp_path / "out"))
    os.rename(folder / "a.parquet", tmp_path / "a.parquet")
    plan, _ = left_out(planned(folder, tmp_path / "out"), folder, 1)
    os.rename(tmp_path / "a.parquet", folder / "a.parquet")
    plan = planned(folder, tmp_path / "out")
    assert [unit.id for unit in units(plan)] == [before[n].id for n in (1, 3, 0, 2)]
    assert units(plan)[:2] == [before[1], before[3]]
    assert len({unit.part for unit in units(plan)}) == 4
    assert plan.total_rows == 32
    assert len(planned(folder, tmp_path / "out").files) == len(plan.files)  # it stays so
    write(folder / "a.parquet", 100, 9)  # changed meanwhile: as any other
    assert sorted(unit.rows for unit in units(planned(folder, tmp_path / "out"))) == [7, 9]


def test_images_that_were_taken_away_and_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.png").write_bytes(b"image %d" % number)
    plan = planned(folder, tmp_path / "out", unit_rows=2)
    for number in (0, 2, 3):
        os.rename(folder / f"{number}.png", tmp_path / f"{number}.png")
    plan, gone = left_out(plan, folder)
    assert gone == ["2.png", "3.png"]  # a unit with one that is left is done, without the other
    assert [unit.files for unit in units(plan)] == [("0.png", "1.png"), ("4.png", "5.png")]
    for number in (2, 3):
        os.rename(tmp_path / f"{number}.png", folder / f"{number}.png")
    plan = planned(folder, tmp_path / "out", unit_rows=2)
    assert [unit.files for unit in units(plan)][2:] == [("2.png", "3.png")]
    assert not compare(plan, list_input(str(folder)))


def test_an_image_that_a_changed_unit_was_cut_without_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(b"image %d" % number)
    planned(folder, tmp_path / "out")
    (folder / "0.png").write_bytes(b"another image")
    os.rename(folder / "2.png", tmp_path / "2.png")
    plan = planned(folder, tmp_path / "out")
    assert [unit.files for unit in units(plan)] == [("0.png", "1.png", "3.png")]
    assert plan.is_live.sum() == 1
    os.rename(tmp_path / "2.png", folder / "2.png")
    plan = planned(folder, tmp_path / "out")
    assert [unit.files for unit in units(plan)] == [("0.png", "1.png", "3.png"), ("2.png",)]
    assert not compare(plan, list_input(str(folder)))


def test_an_output_whose_path_is_used_again_has_its_own_units(tmp_path: Path) -> None:
    """In one process, as in a notebook."""
    for name in ("first", "second"):
        write(tmp_path / name / f"{name}.parquet", 0, 5)
        (unit,) = units(planned(tmp_path / name, tmp_path / "out"))
        assert unit.files == (f"{name}.parquet",)
        shutil.rmtree(tmp_path / "out")


def test_a_file_that_was_rewritten_is_known_from_unit_to_unit(tmp_path: Path) -> None:
    """Each unit knows all those whose part it may replace."""
    ids = []
    for rows in (3, 4, 5):
        write(tmp_path / "in/a.parquet", 10 * rows, rows)
        plan = planned(tmp_path / "in", tmp_path / "out")
        (unit,) = units(plan)
        assert unit.ancestors == tuple(reversed(ids))
        assert plan.heads.tolist() == [len(ids)] * (len(ids) + 1)
        ids.append(unit.id)


def test_what_changed_is_found_in_an_input_of_many_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in a plan of several files, one of which is not in the order of paths."""
    monkeypatch.setattr(comparison, "BATCH", 3)
    monkeypatch.setattr(plan_file, "GROUP_FILES", 4)
    folder = tmp_path / "in"
    folder.mkdir()
    numbers = [*range(0, 40, 2)]
    for number in numbers:
        (folder / f"{number:03}.png").write_bytes(b"%d" % number)
    planned(folder, tmp_path / "out", unit_rows=3)
    for number in (5, 39, 1):
        (folder / f"{number:03}.png").write_bytes(b"new")
    (folder / "030.png").write_bytes(b"changed")
    planned(folder, tmp_path / "out", unit_rows=3)
    (folder / "004.png").unlink()
    (folder / "039.png").unlink()
    (folder / "999.png").write_bytes(b"new")
    (folder / "001.png").write_bytes(b"changed")
    plan = open_plan(locate(str(tmp_path / "out")))
    assert plan is not None
    found = compare(plan, list_input(str(folder)))
    assert [file.path for file in found.new] == ["999.png"]
    assert [file.path for file in found.changed] == ["001.png"]
    assert found.gone.to_pylist() == ["004.png", "039.png"]
    assert found.unchanged == len(numbers) + 3 - 3
    plan = planned(folder, tmp_path / "out", unit_rows=3)
    assert not compare(plan, list_input(str(folder)))
    files = [path for unit in units(plan) for path in unit.files]
    assert len(files) == len({*files})
    assert {*files} - {"004.png", "039.png"} == {path.name for path in folder.iterdir()}


def test_a_file_without_rows_is_looked_at_once(folder: Path, tmp_path: Path) -> None:
    write(folder / "empty.parquet", 0, 0)
    for _ in range(3):
        plan = planned(folder, tmp_path / "out")
    assert len(plan.files) == 1
    assert len(units(plan)) == 4
    assert len(plan.pending(np.zeros(len(plan), dtype=bool))) == 4


def test_another_input_is_recognised(folder: Path, tmp_path: Path) -> None:
    plan = planned(folder, tmp_path / "out")
    assert compare(plan, list_input(str(folder))).unchanged == 2
    write(tmp_path / "other/a.parquet", 7, 3)
    assert compare(plan, list_input(str(tmp_path / "other"))).unchanged == 0


def test_drivers_that_start_at_once_agree(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_from = plan_file.create_from
    rival: list[Plan] = []

    def late(draft: str, where: Location) -> bool:
        monkeypatch.setattr(plan_file, "create_from", create_from)
        rival.append(planned(folder, tmp_path / "out", unit_rows=4))  # somebody is quicker
        return create_from(draft, where)

    monkeypatch.setattr(plan_file, "create_from", late)
    plan = planned(folder, tmp_path / "out", unit_rows=10)
    assert units(plan) == units(rival[0])
    assert len(plan.files) == 1


class Endless:
    """A source of as many rows as anybody likes, in one file."""

    root = locate("/")
    kind = Kind.PARQUET
    schema = pa.schema([("n", pa.int64())])

    def __init__(self, rows: int, unit_rows: int) -> None:
        self.rows, self.unit_rows = rows, unit_rows

    def cut(self, files: Sequence[FileInfo]) -> Iterator[Cut]:
        for start in range(0, self.rows, self.unit_rows):
            yield Cut(files=(files[0].path,), start=start, stop=start + self.unit_rows)


def peak_of_a_start(output: Path, rows: int, unit_rows: int = 10_000) -> int:
    """Most bytes that Python takes while a driver makes a plan and finds its work.

    For a process of its own, which ends with it: `tracemalloc.stop` crashes where a thread of Arrow
    gives a buffer back (Python 3.11, github.com/python/cpython/issues/128679).
    """
    (output.parent / "in").mkdir(exist_ok=True)
    (output.parent / "in/x.parquet").write_bytes(b"x")
    listing = Listing(
        locate(str(output.parent / "in")), Kind.PARQUET, (FileInfo("x.parquet", 1, "1"),)
    )
    tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    source = Endless(rows, unit_rows)
    plan = extended(None, locate(str(output)), listing, source)  # type: ignore[arg-type]
    assert plan.total_rows == rows
    pending = plan.pending(np.zeros(len(plan), dtype=bool))
    assert len(pending) == rows // unit_rows
    assert plan.unit(int(pending[-1])).stop == rows
    return tracemalloc.get_traced_memory()[1] - before


def test_a_plan_of_a_billion_rows_costs_a_driver_some_bytes_a_unit(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        # Imports and caches are not the plan's.
        process.submit(peak_of_a_start, tmp_path / "warm", 10**5).result()
        million = process.submit(peak_of_a_start, tmp_path / "million", 10**6).result()
        billion = process.submit(peak_of_a_start, tmp_path / "billion", 10**9).result()
    assert len(open_plan(locate(str(tmp_path / "billion"))).files) == 1  # type: ignore[union-attr]
    assert billion - million < 8 * 2**20, "100,000 units, some dozen bytes each and a buffer"


def write_names(folder: Path, count: int) -> None:
    """Images in subfolders of 500, all of them one file under different names."""
    for number in range(count):
        if number % 500 == 0:
            below = folder / f"{number:08}"
            below.mkdir(parents=True)
            (below / f"{number:08}.png").write_bytes(b"an image")
        else:
            os.link(below / f"{number - number % 500:08}.png", below / f"{number:08}.png")


def peak_of_starts_over_images(folder: Path, output: Path, batch: int) -> int:
    """Most bytes that Python and Arrow take while a run over images starts twice.

    As `peak_of_a_start`, for a process of its own.
    """
    walk.NAMES = file_table.BATCH = comparison.BATCH = plan_file.GROUP_FILES = batch
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(2):
        plan = planned(folder, output, unit_rows=250)
        assert not compare(plan, list_input(str(folder)))
        pending = plan.pending(np.zeros(len(plan), dtype=bool))
        assert sum(len(plan.unit(int(index)).files) for index in pending) == plan.total_rows
    return tracemalloc.get_traced_memory()[1] - before + pa.default_memory_pool().max_memory()


@pytest.mark.timeout(1800)  # `tracemalloc` makes a million names slow
@pytest.mark.parametrize(
    ("few", "many", "batch"),
    [(5_000, 30_000, 500), pytest.param(10**5, 10**6, 32_768, marks=pytest.mark.long)],
)
def test_a_folder_of_images_costs_a_driver_nothing_for_each(
    tmp_path: Path, few: int, many: int, batch: int
) -> None:
    peaks = []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        for count in (10, few, many):  # the first for imports and caches, which are not ours
            write_names(tmp_path / f"in{count}", count)
            folders = tmp_path / f"in{count}", tmp_path / f"out{count}"
            started = process.submit(peak_of_starts_over_images, *folders, batch)
            peaks.append(started.result())
    # A name alone has 21 bytes; as Python objects, names and stamps had 450.
    assert peaks[2] - peaks[1] < 4 * 2**20 + 20 * (many - few)
