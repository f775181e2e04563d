"""Which rows a unit gives, and in which blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import NoCredentialsError
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.contract.record import Outcome
from pipeline.sources import list_input, open_source
from pipeline.sources.source import COPY_ROWS, READ_BYTES, size_of
from pipeline.sources.units import Work
from pipeline.stages.blocks import unpack
from pipeline.stages.read import pack_work
from pipeline.storage.location import Location
from tests.pipeline.output.samples import unit
from tests.pipeline.stages.samples import blocks, read


def test_reading_numbers_the_rows_that_are_missing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": range(100), "other": range(100)}), tmp_path / "a.parquet")
    source = open_source(list_input(str(tmp_path)), unit_rows=60, keep_images=False)
    first = unit(id="u", files=("a.parquet",), stop=50)
    second = unit(id="v", files=("a.parquet",), start=50, stop=100)
    work = [Work(first), Work(second, (0, 7, 49))]
    items = read(source, work, ["n"], dedup=True)
    assert [item.position for item in items] == [*range(50), 0, 7, 49]
    assert [item.payload for item in items] == [{"n": n} for n in (*range(50), 50, 57, 99)]
    (tmp_path / "a.parquet").unlink()
    faults = read(source, work, ["n"], dedup=True)
    assert [item.unit for item in faults] == ["u", "v"]
    assert faults[0].fault is not None
    assert not faults[0].fault.ends_run
    assert faults[0].fault.message.startswith("a.parquet rows 0-50 cannot be read: FileNotFound")


@pytest.mark.parametrize("positions", [None, (3, 49)])
def test_a_file_that_is_shorter_by_now_is_the_units_fault(
    tmp_path: Path, positions: tuple[int, ...] | None
) -> None:
    pq.write_table(pa.table({"n": range(50)}), tmp_path / "a.parquet")
    source = open_source(list_input(str(tmp_path)), unit_rows=60, keep_images=False)
    pq.write_table(pa.table({"n": range(49)}), tmp_path / "a.parquet")
    work = Work(unit(id="u", files=("a.parquet",), stop=50), positions)
    fault = read(source, [work], ["n"], dedup=False)[-1].fault
    assert fault is not None
    assert "fewer rows than when it was planned; run again" in fault.message


def test_positions_are_right_behind_tables_of_many_rows(tmp_path: Path) -> None:
    lines = (f'{{"n": {n}}}\n' for n in range(3 * COPY_ROWS))
    (tmp_path / "a.jsonl").write_text("".join(lines))  # three tables of `COPY_ROWS`
    source = open_source(list_input(str(tmp_path)), unit_rows=10**6, keep_images=False)
    whole = unit(files=("a.jsonl",), stop=3 * COPY_ROWS)
    items = read(source, [Work(whole)], ["n"], dedup=True)
    assert [item.position for item in items] == [item.payload["n"] for item in items]
    assert len(items) == 3 * COPY_ROWS
    wanted = (0, 1001, COPY_ROWS - 1, COPY_ROWS, COPY_ROWS + 1001, 3 * COPY_ROWS - 1)
    items = read(source, [Work(whole, wanted)], ["n"], dedup=True)
    assert [(item.position, item.payload["n"]) for item in items] == [(n, n) for n in wanted]


@pytest.mark.parametrize(
    ("error", "ends_run"),
    [
        (NoCredentialsError(), True),  # no OSError
        (PermissionError("Access Denied"), False),
        (ValueError("Bad Request"), False),
    ],
)
def test_a_unit_that_the_store_refuses_is_its_fault_or_the_runs(
    tmp_path: Path, error: Exception, ends_run: bool
) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n')
    source = open_source(list_input(str(tmp_path)), unit_rows=60, keep_images=False)

    class Refusing(MemoryFileSystem):
        def _open(self, *_: object, **__: object) -> None:
            raise error

    refused = replace(source, root=Location(Refusing(), "/in"))
    (item,) = read(refused, [Work(unit(files=("a.jsonl",), stop=1))], ["n"], dedup=True)
    assert item.fault is not None
    assert (item.fault.ends_run, item.fault.is_users) == (ends_run, ends_run)
    assert item.fault.message.startswith(f"a.jsonl rows 0-1 cannot be read: {type(error).__name__}")


def test_a_block_has_few_rows_and_few_bytes(tmp_path: Path) -> None:
    sizes = [*[10] * 5, *[READ_BYTES // 2] * 3, READ_BYTES * 2, 10, 10]
    column = pa.array([bytes([n]) * size for n, size in enumerate(sizes)], pa.binary())
    pq.write_table(pa.table({"b": column}), tmp_path / "a.parquet")
    source = open_source(list_input(str(tmp_path)), unit_rows=60, keep_images=False)
    work = pa.table({"work": [pack_work(Work(unit(files=("a.parquet",), stop=len(sizes))))]})
    found = [
        [item.position for item in unpack(one)] for one in blocks(work, source, ["b"], True, 4)
    ]
    assert found == [[0, 1, 2, 3], [4, 5, 6], [7, 8], [9, 10]]


def test_what_a_map_holds_counts() -> None:
    assert size_of({"m": [("key", b"x" * 1000), ("other", None)]}) == 1008


def test_of_identical_rows_the_first_travels(tmp_path: Path) -> None:
    table = {"a": [b"x", b"y", b"x", None, b"x"], "b": [1, 1, 1, 1, 2], "c": range(5)}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    source = open_source(list_input(str(tmp_path)), unit_rows=60, keep_images=True)
    work = [Work(unit(files=("a.parquet",), stop=5))]
    items = read(source, work, ["a", "b"], dedup=True)
    assert [item.same_as for item in items] == [None, None, 0, None, None]
    assert [item.is_settled for item in items] == [False, False, True, False, False]
    assert not any(item.is_settled for item in read(source, work, ["a", "b"], dedup=False))
    assert not any(item.is_settled for item in read(source, work, ["a", "c"], dedup=True))


def test_a_line_that_is_no_json_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n{"n": \n{"n": 3}\n')
    source = open_source(list_input(str(tmp_path)), unit_rows=60, keep_images=False)
    items = read(source, [Work(unit(files=("a.jsonl",), stop=3))], ["n"], dedup=True)
    assert [item.outcome for item in items] == [None, Outcome.DECODE_ERROR, None]
    assert (items[1].error or "").startswith("read: a.jsonl line 2")
