"""What a run has left is what it would compute, however its input has changed meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.forecast.sample import draw
from jobs.forecast.units import units_left
from pipeline import ColumnKind
from pipeline.execution.preparation import CheckedRun
from pipeline.output.extension import extended
from pipeline.output.run_record import claim
from tests.jobs.forecast.test_sample import TEXT, checked
from tests.pipeline.sample_images import jpeg
from tests.speed.feed import ModelTask

IMAGE = ModelTask("image", ColumnKind.IMAGE)


def texts(folder: Path, name: str, rows: int) -> None:
    values = [f"{name} {at} of {rows}" for at in range(rows)]
    pq.write_table(pa.table({"text": values}), folder / f"{name}.parquet")


def images(folder: Path, *names: int) -> None:
    for name in names:
        (folder / f"{name}.jpg").write_bytes(jpeg() + bytes(name))


def begun(folder: Path, model: Path, task: Any, **settings: Any) -> None:
    """A run that was interrupted once it was planned."""
    run = checked(folder, model, task, **settings)
    claim(run.output, run.record)
    extended(run.plan, run.output, run.listing, run.source, run.changes, run.selection)


def left(run: CheckedRun) -> dict[str, int]:
    """Rows by the first file of what is left, all of which can be drawn."""
    cuts = units_left(run)
    total = sum(cut.rows for cut in cuts)
    sample = draw(run, cuts, 10_000)
    assert (sample.population.rows, len(sample.strata), sample.unreadable) == (total, total, ())
    files = [path for cut in sample.chosen.chosen for path in cut.files]
    assert files == sorted(files), "a pilot takes them in the input's order"
    return {cut.files[0]: cut.rows for cut in cuts}


def test_files_that_are_gone_or_changed_are_left_as_they_are_now(
    tmp_path: Path, gemma_folder: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b", "c"):
        texts(folder, name, 100)
    begun(folder, gemma_folder, TEXT)
    (folder / "b.parquet").unlink()
    assert left(checked(folder, gemma_folder)) == {"a.parquet": 100, "c.parquet": 100}
    texts(folder, "c", 120)
    texts(folder, "aa", 7)
    files = {"a.parquet": 100, "aa.parquet": 7, "c.parquet": 120}
    assert left(checked(folder, gemma_folder)) == files


def test_images_that_come_go_or_change_are_left_as_they_are_now(
    tmp_path: Path, gemma_folder: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    images(folder, 0, 1, 3, 5, 6, 7)
    begun(folder, gemma_folder, IMAGE, unit_rows=3)
    images(folder, 9)  # only new ones, and then only a changed one
    assert sum(left(checked(folder, gemma_folder, IMAGE, unit_rows=3)).values()) == 7
    (folder / "9.jpg").unlink()
    (folder / "1.jpg").write_bytes(jpeg() + bytes(100))
    assert sum(left(checked(folder, gemma_folder, IMAGE, unit_rows=3)).values()) == 6
    (folder / "6.jpg").unlink()
    images(folder, 2, 4)
    assert sum(left(checked(folder, gemma_folder, IMAGE, unit_rows=3)).values()) == 7
