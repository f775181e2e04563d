"""A pilot's rows are of all units and files, and of all sizes; and they are rows the run takes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.forecast.sample import WINDOW_ROWS, Sample, candidates, draw, windows
from jobs.forecast.units import units_left
from pipeline import ColumnKind, EngineConfig, RunConfig, UserError
from pipeline.execution.preparation import CheckedRun, check_run
from pipeline.sources import read_taken
from pipeline.sources.units import Cut
from tests.pipeline.fakes import FAKE
from tests.pipeline.sample_images import jpeg
from tests.speed.feed import ModelTask

TEXT = ModelTask("text", ColumnKind.TEXT)


def checked(folder: Path, model: Path, task: Any = TEXT, **settings: Any) -> CheckedRun:
    config = RunConfig(
        input=str(folder),
        output=str(folder.parent / "out"),
        engine=EngineConfig(model=str(model)),
        **settings,
    )
    return check_run(config, task, FAKE)


def texts(count: int) -> list[str]:
    """Each one another: a twentieth empty but for its number, a twentieth very long."""
    random = np.random.default_rng(1)
    kinds = random.choice(3, count, p=[0.05, 0.9, 0.05])
    lengths = [0, 200, 5000]
    return [f"{at} " + "w" * lengths[kind] for at, kind in enumerate(kinds)]


def is_german(value: str) -> bool:
    """Of every third row."""
    return int(value.split(maxsplit=1)[0]) % 3 == 0


def write(folder: Path, values: list[str], files: int = 4, group: int = 50) -> None:
    folder.mkdir()
    for file in range(files):
        some = values[file * len(values) // files : (file + 1) * len(values) // files]
        table = pa.table({"text": some, "lang": ["de" if is_german(v) else "en" for v in some]})
        pq.write_table(table, folder / f"{file}.parquet", row_group_size=group)


def read(run: CheckedRun, sample: Sample, column: str = "text") -> list[Any]:
    """The values of the rows that a pilot would read."""
    return [
        value
        for cut in sample.chosen.chosen
        for table in read_taken(run.source, cut, [column])
        for value in table[column].to_pylist()
    ]


def test_rows_are_of_all_files_and_all_sizes(tmp_path: Path, gemma_folder: Path) -> None:
    values = texts(4000)
    write(tmp_path / "in", values)
    run = checked(tmp_path / "in", gemma_folder, unit_rows=250)
    sample = draw(run, units_left(run), 200)
    found = read(run, sample)
    assert len(found) == len(sample.strata) == 200
    assert len({*found}) == 200
    assert {path for cut in sample.chosen.chosen for path in cut.files} == {
        f"{file}.parquet" for file in range(4)
    }
    assert sample.population.rows == 4000
    assert sum(sample.population.shares) == pytest.approx(1.0)
    # The sizes that were noted are those of the rows, in the order in which they are read.
    assert list(sample.sizes) == [len(value) for value in found]
    long = sum(len(value) > 1000 for value in found)
    assert long >= 15, "a twentieth of the rows, at least a tenth of the pilot or all of a stratum"
    assert not (tmp_path / "out").exists()


def test_the_same_rows_are_drawn_again(tmp_path: Path, gemma_folder: Path) -> None:
    write(tmp_path / "in", texts(1000))
    run = checked(tmp_path / "in", gemma_folder)
    one, same = (draw(run, units_left(run), 100).chosen for _ in range(2))
    assert one == same
    other = checked(tmp_path / "in", gemma_folder, sample_seed=5)
    assert draw(other, units_left(other), 100).chosen != one


def test_of_a_small_input_all_rows_are_drawn(tmp_path: Path, gemma_folder: Path) -> None:
    values = texts(60)
    write(tmp_path / "in", values)
    run = checked(tmp_path / "in", gemma_folder)
    assert read(run, draw(run, units_left(run), 400)) == values


def test_only_rows_that_the_run_takes_are_drawn(tmp_path: Path, gemma_folder: Path) -> None:
    values = texts(2000)
    write(tmp_path / "in", values)
    run = checked(tmp_path / "in", gemma_folder, where="lang = 'de'", unit_rows=300)
    sample = draw(run, units_left(run), 100)
    assert {*read(run, sample, "lang")} == {"de"}
    assert sample.population.rows == sum(map(is_german, values))
    run = checked(tmp_path / "in", gemma_folder, limit=700)
    assert {*read(run, draw(run, units_left(run), 100))} <= {*values[:700]}
    run = checked(tmp_path / "in", gemma_folder, where="lang = 'xx'")
    with pytest.raises(UserError, match="no row"):
        draw(run, units_left(run), 100)


def test_identical_rows_are_drawn_once_and_counted(tmp_path: Path, gemma_folder: Path) -> None:
    values = [f"{at // 4}" for at in range(1000)]
    write(tmp_path / "in", values, files=1)
    run = checked(tmp_path / "in", gemma_folder)
    sample = draw(run, units_left(run), 100)
    assert len({*read(run, sample)}) == 100
    assert sample.population == dataclasses.replace(sample.population, rows=1000, computed=0.25)
    assert {*sample.copies} == {4}
    every = checked(tmp_path / "in", gemma_folder, dedup=False)
    assert draw(every, units_left(every), 100).population.computed == 1.0


def test_rows_that_are_kept_are_not_planned(tmp_path: Path, gemma_folder: Path) -> None:
    (tmp_path / "in").mkdir()
    answers = [None if at % 5 == 0 else "old" for at in range(1000)]
    table = pa.table({"text": [f"text {at}" for at in range(1000)], "answer": answers})
    pq.write_table(table, tmp_path / "in/a.parquet")
    run = checked(tmp_path / "in", gemma_folder, missing="answer")
    sample = draw(run, units_left(run), 50)
    assert sample.population.rows == 200
    assert {*read(run, sample, "answer")} == {None}


@pytest.mark.parametrize("length", [10, 2000])
def test_kept_rows_of_a_window_do_not_crowd_out_the_others(
    tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """A unit's kept rows are told first; a look into it ends after its rows, or at long ones."""
    monkeypatch.setattr("jobs.forecast.sample.WHOLE_ROWS", 100)
    monkeypatch.setattr("jobs.forecast.sample.WINDOW_BYTES", 32 * 1024)
    (tmp_path / "in").mkdir()
    lines = (
        {"text": f"{at} " + "w" * length, "answer": "old" if at % 4 else None} for at in range(4000)
    )
    (tmp_path / "in/a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run = checked(tmp_path / "in", gemma_folder, missing="answer", unit_rows=1000)
    population = draw(run, units_left(run), 100).population
    assert population.rows == pytest.approx(1000, rel=0.02)
    assert population.computed == 1.0


def test_sizes_of_images_are_those_of_their_files(tmp_path: Path, gemma_folder: Path) -> None:
    """Empty files and large ones are found without opening one."""
    folder = tmp_path / "in"
    folder.mkdir()
    good = jpeg()
    for at in range(600):
        body = b"" if at % 20 == 0 else good + b"\0" * (50_000 * (at % 20 == 1))
        (folder / f"{at:03}.jpg").write_bytes(body)
    run = checked(folder, gemma_folder, ModelTask("image", ColumnKind.IMAGE), unit_rows=100)
    sample = draw(run, units_left(run), 60)
    assert len(sample.chosen.chosen) == 1, "images of all units travel together"
    (cut,) = sample.chosen.chosen
    sizes = [(folder / path).stat().st_size for path in cut.files]
    assert list(sample.sizes) == sizes
    assert 0 in sizes
    assert max(sizes) > 50_000


def test_broken_records_are_among_the_rows(tmp_path: Path, gemma_folder: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    lines = ["{broken" if at % 10 == 0 else json.dumps({"text": f"t {at}"}) for at in range(500)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    run = checked(folder, gemma_folder)
    found = candidates(run, units_left(run), 100)
    assert len(found.units) == 500
    assert (found.sizes == 0).sum() == 50
    sample = draw(run, units_left(run), 100)
    share = sample.population.shares[sample.strata[sample.sizes.index(0)]]
    assert share == pytest.approx(0.1)


CUTS = [Cut(files=(f"{at}",), start=0, stop=1000) for at in range(1000)]


def test_of_a_large_input_windows_are_evenly_over_its_rows() -> None:
    found = windows(CUTS, 400, is_whole=False)
    assert [one.unit for one in found] == [
        41,
        125,
        208,
        291,
        375,
        458,
        541,
        625,
        708,
        791,
        875,
        958,
    ]
    assert {one.rows for one in found} == {WINDOW_ROWS}
    assert all(0 <= one.first <= 1000 - WINDOW_ROWS for one in found)
    assert sum(one.stands_for for one in found) == pytest.approx(1_000_000)


def test_a_unit_that_is_much_of_an_input_is_looked_at_more() -> None:
    cuts = [Cut(files=("a",), start=0, stop=90_000), Cut(files=("b",), start=0, stop=10_000)]
    large, small = windows(cuts, 400, is_whole=False)
    assert (large.unit, large.rows, small.rows) == (0, 11 * WINDOW_ROWS, WINDOW_ROWS)
    assert large.stands_for == pytest.approx(11 * small.stands_for)


def test_windows_stand_for_the_rows_around_them(
    tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of an input that is too large to be looked at whole."""
    monkeypatch.setattr("jobs.forecast.sample.WHOLE_ROWS", 100)
    monkeypatch.setattr("jobs.forecast.sample.WINDOW_ROWS", 20)
    values = texts(4000)
    write(tmp_path / "in", values)
    run = checked(tmp_path / "in", gemma_folder, unit_rows=250)
    found = candidates(run, units_left(run), 160)
    assert len(found.units) == 5 * 20
    assert found.weights.sum() == pytest.approx(4000)
    sample = draw(run, units_left(run), 160)  # all rows that were looked at
    assert list(sample.sizes) == [len(value) for value in read(run, sample)]
    assert len({*read(run, sample)} & {*values}) == 100
