"""The plan of a slice: what is taken stands, and later files are taken in or left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import EngineConfig, RunConfig, UserError
from pipeline.output.commit import NewParts
from pipeline.output.extension import changes_of, extended
from pipeline.output.journal import Journal, entry_schema
from pipeline.output.order import shuffled
from pipeline.output.plan import Plan, open_plan
from pipeline.output.run_record import differences, slice_of
from pipeline.sources import Selection, list_input, open_source, read_taken
from pipeline.sources.units import Work
from pipeline.storage.location import locate


def write(path: Path, first: int, rows: int) -> None:
    path.parent.mkdir(exist_ok=True)
    numbers = [*range(first, first + rows)]
    pq.write_table(pa.table({"n": numbers, "even": [n % 2 == 0 for n in numbers]}), path)


def config(**options: Any) -> RunConfig:
    return RunConfig(input="in", output="out", engine=EngineConfig(model="m"), **options)


def planned(folder: Path, **options: Any) -> tuple[Plan, list[int]]:
    """The plan as a run makes or extends it, and the numbers in its rows."""
    output = locate(str(folder / "out"))
    listing, plan = list_input(str(folder / "in")), open_plan(output)
    schema = None if plan is None else plan.schema
    source = open_source(listing, unit_rows=10, keep_images=False, schema=schema)
    selection = Selection.of(config(**options), source.schema, 10)
    changes = None if plan is None else changes_of(plan, listing, selection)
    plan = extended(plan, output, listing, source, changes, selection)
    assert not changes_of(plan, listing, selection)
    numbers: list[int] = []
    for index in np.flatnonzero(plan.is_live):
        unit = plan.unit(int(index))
        assert unit.rows == plan.rows[index]
        if unit.rows:
            tables = read_taken(source, unit, ["n"])
            numbers += [n for table in tables for n in table["n"].to_pylist()]
    assert len(numbers) == plan.total_rows
    return plan, numbers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "in/a.parquet", 0, 30)
    write(tmp_path / "in/c.parquet", 30, 20)
    return tmp_path


def test_later_files_fill_up_a_limit(folder: Path) -> None:
    assert planned(folder, limit=60)[1] == [*range(50)]
    write(folder / "in/b.parquet", 100, 30)
    first, numbers = planned(folder, limit=60)
    assert numbers == [*range(50), *range(100, 110)]
    write(folder / "in/d.parquet", 200, 30)
    again, numbers = planned(folder, limit=60)
    assert (len(again.files), numbers) == (len(first.files), [*range(50), *range(100, 110)])


def test_a_limit_plans_no_further_file(folder: Path) -> None:
    plan, numbers = planned(folder, limit=7)
    assert (len(plan), numbers) == (1, [*range(7)])
    assert plan.unit(0).files == ("a.parquet",)


def test_a_sample_is_drawn_once(folder: Path) -> None:
    _, first = planned(folder, sample=5)
    write(folder / "in/b.parquet", 100, 300)
    assert planned(folder, sample=5)[1] == first


def test_of_a_changed_file_a_number_of_rows_is_not_taken_again(folder: Path) -> None:
    planned(folder, limit=5)
    write(folder / "in/a.parquet", 7, 30)
    with pytest.raises(UserError, match=r"limited number of rows.*a\.parquet has changed"):
        planned(folder, limit=5)


def test_a_file_of_which_no_row_was_taken_may_change(folder: Path) -> None:
    write(folder / "in/b.parquet", 101, 1)  # an odd number
    assert planned(folder, limit=40, where="even")[1] == [*range(0, 50, 2)]
    write(folder / "in/b.parquet", 200, 4)
    assert planned(folder, limit=40, where="even")[1] == [*range(0, 50, 2), 200, 202]


def test_a_condition_takes_of_new_and_changed_files_what_matches(folder: Path) -> None:
    where = "even and n >= 20"
    _, numbers = planned(folder, where=where)
    assert numbers == [*range(20, 50, 2)]
    write(folder / "in/b.parquet", 100, 5)
    write(folder / "in/d.parquet", 0, 5)  # none of it
    _, numbers = planned(folder, where=where)
    assert sorted(numbers) == [*range(20, 50, 2), 100, 102, 104]
    write(folder / "in/a.parquet", 300, 6)
    _, numbers = planned(folder, where=where)
    assert sorted(numbers) == [*range(30, 50, 2), 100, 102, 104, 300, 302, 304]
    write(folder / "in/a.parquet", 1, 6)  # none any more
    assert sorted(planned(folder, where=where)[1]) == [*range(30, 50, 2), 100, 102, 104]


def test_a_condition_that_leaves_nothing_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"where: no row of INPUT .*in matches"):
        planned(folder, where="n > 1000")
    assert open_plan(locate(str(folder / "out"))) is None


def test_units_with_other_rows_have_other_ids(folder: Path, tmp_path: Path) -> None:
    one = planned(folder, where="even")[0].ids().to_pylist()
    (tmp_path / "out").rename(tmp_path / "before")
    other = planned(folder, where="not even")[0].ids().to_pylist()
    assert not {*one} & {*other}


def test_shuffled_units_are_all_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.output.order.AT_ONCE", 2)
    plan, _ = planned(folder)
    wanted = np.array([0, 1, 3, 4])
    orders = {seed: [u.index for u in shuffled(plan, wanted, seed)] for seed in range(9)}
    assert all(sorted(order) == [0, 1, 3, 4] for order in orders.values())
    assert orders[3] == [u.index for u in shuffled(plan, wanted, 3)]
    assert len({tuple(order) for order in orders.values()}) > 1


def record(**options: Any) -> dict[str, Any]:
    """As much of a run's record as tells runs apart."""
    found = {"task": "t", "settings": {}, "columns": {}, "model": {"identity": "i"}}
    return {**found, "config": config(**options).model_dump(mode="json")}


def test_a_slice_tells_runs_apart_only_where_there_is_one() -> None:
    whole = record()
    assert slice_of(whole) == {}
    before = record()
    for name in ("where", "limit", "sample", "sample_seed", "shuffle", "missing"):
        before["config"].pop(name)  # of a version that had none of them
    assert differences(before, whole) == []
    assert differences(whole, record(shuffle=True, sample_seed=7)) == []
    assert differences(before, record(limit=3)) == ["limit: absent, now 3"]
    assert differences(record(sample=3), record(sample=3, sample_seed=1)) == [
        "sample_seed: 0, now 1"
    ]
    assert differences(record(missing="a"), record(missing="b")) == ["missing: 'a', now 'b'"]


@pytest.mark.parametrize("prefix", ["", "gemma_"])
def test_a_part_has_old_and_new_values_in_one_column(folder: Path, prefix: str) -> None:
    path, name = folder / "in/a.parquet", f"{prefix}text"
    old = pa.array(["old", None, " ", "older"] * 5, pa.large_string())
    pq.write_table(pa.table({name: old, "n": range(20)}), path)
    (folder / "in/c.parquet").unlink()
    plan, _ = planned(folder, where="n < 8")
    unit = plan.unit(0)
    listing = list_input(str(folder / "in"))
    source = open_source(listing, unit_rows=10, keep_images=False, schema=plan.schema)
    journal = Journal(plan.output, pa.schema([pa.field("text", pa.string())]))
    rows = [
        {"position": n, "outcome": "kept"}
        if n % 4 in (0, 3)
        else {"position": n, "outcome": "ok", "text": f"new {n}"}
        for n in range(8)
    ]
    entries = pa.Table.from_pylist(rows, schema=entry_schema(journal.results))
    journal.append(unit.id, entries)
    parts = NewParts(journal=journal, source=source, run={}, prefix=prefix, merged=name)
    done = parts.commit(Work(unit))
    assert (done.rows, done.outcomes) == (8, {"kept": 4, "ok": 4})
    part = pq.read_table(folder / "out" / unit.part)
    assert part.column_names[:3] == ["n", name, f"{prefix}row_key"]
    assert part[name].to_pylist() == [
        "old",
        "new 1",
        "new 2",
        "older",
        "old",
        "new 5",
        "new 6",
        "older",
    ]
