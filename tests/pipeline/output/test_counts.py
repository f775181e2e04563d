"""What is done already is found by listing names: a start costs little however much that is."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.output.counts import committed_units, forget_counts, save_counts, totals
from pipeline.output.parts import Committed
from pipeline.output.plan import Plan, extended, open_plan
from pipeline.sources import Kind, Listing, list_input
from pipeline.sources.units import Work
from pipeline.storage.location import FileInfo, Location, locate
from tests.pipeline.output.samples import Input, fill, new_parts, source
from tests.pipeline.output.test_plan import Endless
from tests.stores import S3

__all__ = ["source"]


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
    names = part_names(plan_of(output, 3_000, tmp_path))
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: output.fs.pipe_file(f"{output.path}/{name}", b"x"), names[1:]))
    plan = open_plan(output)
    assert plan is not None
    before = len(s3.requests())
    is_there = committed_units(plan)
    requests = s3.requests()[before:]
    assert is_there.sum() == 2_999
    assert not is_there[0]
    assert len(requests) <= 3, requests


def test_counts_are_kept_and_can_be_forgotten(source: Input, tmp_path: Path) -> None:
    output = locate(str(tmp_path / "out"))
    listing = list_input(source.source.root.path)
    plan = extended(None, output, listing, source.source)
    commits = new_parts(output, source)
    for unit in source.units:
        fill(commits.journal, unit)
        commits.commit(Work(unit))
    assert totals(plan).outcomes == {"ok": 20}
    known = Committed(source.units[0].id, 10, {"ok": 7, "decode_error": 3}, 2)
    forget_counts(output)
    for _ in range(2):  # two drivers may save the same count
        save_counts(output, [(source.units[0].part, known)])
    counted = totals(plan)  # as saved, and not opened again
    assert (counted.outcomes, counted.duplicates) == ({"ok": 17, "decode_error": 3}, 2)
    assert (counted.units, counted.rows) == (2, 20)
    forget_counts(output)
    assert totals(plan).outcomes == {"ok": 20}
