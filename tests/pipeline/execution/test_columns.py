"""Whole runs over inputs whose columns change from night to night, or are called like ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jobs.cli.tables import export_errors
from pipeline import UserError, failed_rows, retry, run, status
from pipeline.storage.location import locate
from tests.pipeline.execution.test_run import config
from tests.pipeline.fakes import FAKE, ColourTask
from tests.pipeline.sample_images import encoded, plain

pytestmark = pytest.mark.usefixtures("ray_cluster")


def images(*reds: int) -> list[bytes]:
    """An image of each colour; 0 is no image."""
    return [encoded(plain((red, 1, 1)), "PNG") if red else b"no image" for red in reds]


def reds(table: pa.Table, column: str = "colour") -> list[int | None]:
    return [colour and colour[0] for colour in table[column].to_pylist()]


def test_a_column_that_a_later_night_adds_is_null_in_the_nights_before(
    tmp_path: Path, gemma_folder: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    first = {"n": pa.array([0, 1], pa.int64()), "image": images(1, 0), "label": pa.nulls(2)}
    first["position"] = [7, 8]  # the journal has a column of that name
    pq.write_table(pa.table(first), folder / "b.parquet")
    settings = config(folder, out, gemma_folder)
    assert run(settings, ColourTask(), backend=FAKE).outcomes == {"ok": 1, "decode_error": 1}
    before = {path.name: path.read_bytes() for path in out.glob("part-*")}

    # Narrower, wider where it is the same, more, and in another order.
    second = {"label": ["cat", "dog"], "image": pa.array(images(3, 0), pa.large_binary())}
    second |= {"source": ["new", "new"], "n": pa.array([2, 3], pa.int32())}
    pq.write_table(pa.table(second), folder / "a.parquet")
    result = run(settings, ColourTask(), backend=FAKE)
    assert (result.rows, result.new_rows) == (4, 2)
    assert {path.name: path.read_bytes() for path in out.glob("part-*")}.items() >= before.items()
    table = result.table()
    assert table.schema.names[:4] == ["n", "label", "position", "source"]
    assert table["position"].to_pylist() == [7, 8, None, None]
    assert table["n"].to_pylist() == [0, 1, 2, 3]
    assert table["label"].to_pylist() == [None, None, "cat", "dog"]
    assert table["source"].to_pylist() == [None, None, "new", "new"]
    assert reds(table) == [1, None, 3, None]
    # A reader that knows nothing of it opens the folder too, and one that does sees all columns.
    assert ds.dataset(out).to_table()["label"].to_pylist() == [None, None, "cat", "dog"]
    assert ds.dataset(out, schema=table.schema).to_table() == table

    failed = [*failed_rows(str(out))]
    assert len({rows.schema for rows in failed}) == 1
    assert pa.concat_tables(failed)["source"].to_pylist() == [None, "new"]
    assert export_errors(failed, locate(str(tmp_path / "failed.parquet"))) == 2
    found = status(str(out))
    assert (found.rows_done, found.outcomes) == (4, {"ok": 2, "decode_error": 2})
    again = retry(settings, ColourTask(), ["decode_error"], backend=FAKE)
    assert (again.new_rows, again.table()) == (2, table)
    assert run(settings, ColourTask(), backend=FAKE).new_rows == 0


def test_a_later_file_that_cannot_lie_beside_the_parts_is_refused_and_changes_nothing(
    tmp_path: Path, gemma_folder: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    first = {"n": pa.array([0], pa.int32()), "image": images(1)}
    pq.write_table(pa.table(first), folder / "a.parquet")
    settings = config(folder, out, gemma_folder)
    run(settings, ColourTask(), backend=FAKE)
    before = {path: path.read_bytes() for path in out.rglob("*.parquet")}
    wide = {"n": pa.array([2**40], pa.int64()), "image": images(2)}
    for late, fault in (
        (
            wide,
            r"^column 'n' is int32 in the files planned before and int64 in b\.parquet; not all",
        ),
        ({"image": images(2), "outcome": ["x"]}, "^INPUT has a column 'outcome', which the run"),
    ):
        pq.write_table(pa.table(late), folder / "b.parquet")
        with pytest.raises(UserError, match=fault):
            run(settings, ColourTask(), backend=FAKE)
        assert {path: path.read_bytes() for path in out.rglob("*.parquet")} == before
        # It does not concern the rows that are there.
        assert retry(settings, ColourTask(), ["too_long"], backend=FAKE).new_rows == 0


def test_a_prefix_stands_before_all_added_columns(tmp_path: Path, gemma_folder: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    own: dict[str, Any] = {
        "colour": ["old", None, "", "old"],
        "outcome": ["x"] * 4,
        "error": pa.nulls(4),
        "position": [7, 7, 7, 7],  # as the journal calls something else
    }
    pq.write_table(pa.table({**own, "image": images(1, 2, 0, 4)}), folder / "a.parquet")
    with pytest.raises(UserError) as clash:
        run(config(folder, out, gemma_folder), ColourTask(), backend=FAKE)
    assert str(clash.value) == (
        "INPUT has the columns 'colour', 'outcome', 'error', which the run adds itself; give "
        "--prefix gemma_ to put that before the names of all added columns"
    )
    assert not out.exists()
    settings = config(folder, out, gemma_folder, prefix="gemma_")
    result = run(settings, ColourTask(), backend=FAKE)
    assert result.outcomes == {"ok": 3, "decode_error": 1}
    table = result.table()
    added = ["row_key", "outcome", "error", "prompt_tokens", "output_tokens"]
    assert table.schema.names == [*own, *(f"gemma_{name}" for name in ("colour", *added))]
    for name in ("colour", "outcome", "position"):
        assert table[name].to_pylist() == pa.array(own[name]).to_pylist()
    assert reds(table, "gemma_colour") == [1, 2, None, 4]

    (failed,) = failed_rows(str(out))
    assert failed["gemma_outcome"].to_pylist() == ["decode_error"]
    assert status(str(out)).outcomes == result.outcomes
    again = retry(settings, ColourTask(), ["decode_error"], backend=FAKE)
    assert (again.new_rows, again.outcomes, again.table()) == (1, result.outcomes, table)
    with pytest.raises(UserError, match=r"\(prefix: 'gemma_', now 'other_'\)"):
        run(config(folder, out, gemma_folder, prefix="other_"), ColourTask(), backend=FAKE)
