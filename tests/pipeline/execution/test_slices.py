"""Runs over a slice of their input: each of its rows once, and what is not missing as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import ErrorRateError, UserError, retry, run, status
from tests.pipeline.execution.test_run import colours_dataset, config, read_back
from tests.pipeline.fakes import ANSWERED, FAKE, SLOW_FAKE, ColourTask

pytestmark = pytest.mark.usefixtures("ray_cluster")


def with_column(folder: Path, name: str, values: pa.Array) -> None:
    """Add a column to all files of a folder."""
    at = 0
    for path in sorted(folder.iterdir()):
        table = pq.read_table(path)
        some = values.slice(at, table.num_rows)
        pq.write_table(table.append_column(name, some), path, row_group_size=40)
        at += table.num_rows


def test_a_run_that_stopped_finishes_its_slice(tmp_path: Path, gemma_folder: Path) -> None:
    records = colours_dataset(tmp_path / "in", 1200, bad_share=0.3)
    fields: dict[str, Any] = {"unit_rows": 50, "block_rows": 10, "render_workers": 1}
    fields |= {"where": "n >= 100 and n < 1100", "sample": 700, "shuffle": True}
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, **fields)
    with pytest.raises(ErrorRateError):
        run(settings.model_copy(update={"max_error_rate": 0.1}), ColourTask(), backend=FAKE)
    stopped = status(str(tmp_path / "out"))
    assert stopped.rows == 700
    assert stopped.slice == {"where": fields["where"], "sample": 700, "sample_seed": 0}
    assert 0 < stopped.rows_done + stopped.rows_journalled < 700
    result = run(settings, ColourTask(), backend=FAKE)
    assert result.rows == 700
    assert 0 < result.new_rows <= 700 - stopped.rows_done - stopped.rows_journalled
    table = read_back(tmp_path / "out")
    numbers = table["n"].to_pylist()
    assert len({*numbers}) == 700
    assert numbers == sorted(numbers)
    assert set(numbers) <= {*range(100, 1100)}
    assert table["colour"].to_pylist() == [records[n]["colour"] for n in numbers]
    assert len({*table["row_key"].to_pylist()}) == 700

    again = retry(settings, ColourTask(), ["decode_error"], backend=FAKE)
    assert 0 < again.new_rows < 700
    assert read_back(tmp_path / "out").equals(table)


def test_another_slice_needs_another_output(tmp_path: Path, gemma_folder: Path) -> None:
    colours_dataset(tmp_path / "in", 40)
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, limit=10)
    assert run(settings, ColourTask(), backend=FAKE).rows == 10
    assert run(settings, ColourTask(), backend=FAKE).new_rows == 0
    for change in ({"limit": 20}, {"limit": None}, {"where": "n > 3"}):
        other = settings.model_copy(update=change)
        with pytest.raises(UserError, match="made of another slice of INPUT"):
            run(other, ColourTask(), backend=FAKE)


def test_only_missing_values_are_computed(tmp_path: Path, gemma_folder: Path) -> None:
    records = colours_dataset(tmp_path / "in", 300, bad_share=0.1)
    old = [[n] if n % 3 == 0 else [] if n % 3 == 1 else None for n in range(300)]
    with_column(tmp_path / "in", "colour", pa.array(old, pa.list_(pa.int16())))
    fields: dict[str, Any] = {"unit_rows": 50, "missing": "colour", "max_error_rate": 1}
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, **fields)
    result = run(settings, ColourTask(), backend=FAKE)
    assert result.outcomes["kept"] == 100
    table = read_back(tmp_path / "out")
    assert table.column_names.count("colour") == 1
    for n, row in enumerate(table.to_pylist()):
        due = [n] if n % 3 == 0 else records[n]["colour"]
        assert (row["n"], row["colour"]) == (n, due)
        assert row["outcome"] == ("kept" if n % 3 == 0 else records[n]["outcome"])
        assert (row["output_tokens"] is None) == (row["outcome"] != "ok")


def test_a_missing_column_of_another_name_passes_through(
    tmp_path: Path, gemma_folder: Path
) -> None:
    """And what is kept is not computed: with identical images too."""
    records = colours_dataset(tmp_path / "in", 60)
    texts = ["there" if n % 4 else " " for n in range(60)]
    with_column(tmp_path / "in", "text", pa.array(texts))
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, missing="text")
    assert run(settings, ColourTask(), backend=SLOW_FAKE).outcomes == {"kept": 45, "ok": 15}
    assert Path(str(gemma_folder) + ANSWERED).stat().st_size == 15
    table = read_back(tmp_path / "out")
    assert table["text"].to_pylist() == texts
    due = [None if n % 4 else records[n]["colour"] for n in range(60)]
    assert table["colour"].to_pylist() == due


def test_a_night_that_adds_a_column_leaves_one_column_of_old_and_new_values(
    tmp_path: Path, gemma_folder: Path
) -> None:
    records = colours_dataset(tmp_path / "in", 20)
    old = [[n] if n % 2 else None for n in range(20)]
    with_column(tmp_path / "in", "colour", pa.array(old, pa.list_(pa.int16())))
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, missing="colour")
    assert run(settings, ColourTask(), backend=FAKE).outcomes == {"kept": 10, "ok": 10}
    first = pq.read_table(sorted((tmp_path / "in").iterdir())[0]).slice(0, 2)
    later = first.append_column("source", pa.array(["new", "new"]))
    pq.write_table(later, tmp_path / "in/z.parquet")
    result = run(settings, ColourTask(), backend=FAKE)
    assert result.outcomes == {"kept": 11, "ok": 11}
    table = result.table()
    assert table.column_names.count("colour") == 1
    due = [old[n] or records[n]["colour"] for n in (*range(20), 0, 1)]
    assert table["colour"].to_pylist() == due
    assert table["source"].to_pylist() == [None] * 20 + ["new"] * 2


def test_identical_rows_do_not_take_what_was_kept(tmp_path: Path, gemma_folder: Path) -> None:
    colours_dataset(tmp_path / "in", 10)
    (path,) = (tmp_path / "in").iterdir()
    same = pa.concat_tables([pq.read_table(path)] * 2)
    texts = pa.array(["there"] * 10 + [None] * 10)
    pq.write_table(same.append_column("text", texts), path)
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, missing="text")
    assert run(settings, ColourTask(), backend=FAKE).outcomes == {"kept": 10, "ok": 10}
    colours = read_back(tmp_path / "out")["colour"].to_pylist()
    assert colours[:10] == [None] * 10
    assert None not in colours[10:]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"missing": "numer"}, "missing: INPUT has no column 'numer'; did you mean 'number'"),
        ({"missing": "colour"}, "missing: column 'colour' is string, and what the run adds"),
        ({"where": "numer = 1"}, "where: INPUT has no column 'numer'; did you mean 'number'"),
        ({"limit": 1, "sample": 1}, "sample: excludes limit"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    options: dict[str, Any], fault: str, tmp_path: Path, gemma_folder: Path
) -> None:
    colours_dataset(tmp_path / "in", 5)
    with_column(tmp_path / "in", "number", pa.array(range(5)))
    if options.get("missing") == "colour":
        with_column(tmp_path / "in", "colour", pa.array(["red"] * 5))
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, **options)
    with pytest.raises(UserError, match=fault):
        run(settings, ColourTask(), backend=FAKE)
    assert not (tmp_path / "out").exists()
