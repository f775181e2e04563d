"""Data in memory: to parquet and back to the same kind, in order."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.sdk.memory import rows_of, with_absolute_paths, write_ray_dataset, write_rows
from pipeline import UserError
from pipeline.storage.location import locate

NEW = pa.table({"caption": ["a", None, "c"], "outcome": ["ok", "decode_error", "ok"]})


def solid_image(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (4, 3), colour)


def opened(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(body))


def test_an_arrow_table() -> None:
    table = pa.table({"id": [3, 1, 2], "image": [b"x", b"y", b"z"]})
    rows = rows_of(table, "image")
    assert rows.table is table
    back = rows.give_back(NEW)
    assert back.column_names == ["id", "image", "caption", "outcome"]
    assert back["caption"].to_pylist() == ["a", None, "c"]


def test_a_pandas_table_keeps_its_index_and_its_images() -> None:
    images = [solid_image((1, 2, 3)), None, solid_image((4, 5, 6))]
    frame = pd.DataFrame({"image": images, "n": [1.5, 2.5, 3.5]}, index=["x", "y", "z"])
    rows = rows_of(frame, "image")
    bodies = rows.table["image"].to_pylist()
    assert opened(bodies[0]).getpixel((0, 0)) == (1, 2, 3)
    assert bodies[1] is None
    back = rows.give_back(NEW)
    assert list(back.index) == ["x", "y", "z"]
    assert back["image"].iloc[2] is images[2]
    assert list(back["outcome"]) == ["ok", "decode_error", "ok"]


def test_an_index_with_a_label_twice_gives_each_row_once() -> None:
    frame = pd.DataFrame({"image": [b"x", b"y", b"z"]}, index=[0, 0, 1])
    back = rows_of(frame, "image").give_back(NEW)
    assert list(back.index) == [0, 0, 1]
    assert list(back["image"]) == [b"x", b"y", b"z"]
    assert list(back["outcome"]) == ["ok", "decode_error", "ok"]


def test_dicts_that_differ() -> None:
    given = [{"n": object()}, {"image": b"x"}, {"image": "a.png"}]
    table = rows_of(given, "image", ["image"]).table
    assert table["image"].to_pylist() == [
        {"bytes": None, "path": None},
        {"bytes": b"x", "path": None},
        {"bytes": None, "path": "a.png"},
    ]
    assert table.column_names == ["n", "image"]
    with pytest.raises(UserError, match="column 'n' cannot be read"):
        rows_of(given, "image")


def test_what_the_job_does_not_read_may_be_anything() -> None:
    frame = pd.DataFrame({"text": ["a", None], "x": ["a", 3]})
    assert rows_of(frame, "text", ["text"]).table["text"].to_pylist() == ["a", None]


def test_half_a_surrogate_pair_is_its_rows_fault(tmp_path: Path) -> None:
    table = rows_of(["good", "bad \ud800", None], "text").table
    path = write_rows(table, ["text"], locate(str(tmp_path)))
    read = pq.read_table(path)["text"]
    assert (read[0].as_py(), read[2].as_py()) == ("good", None)
    with pytest.raises(UnicodeDecodeError):
        read[1].as_py()


def test_relative_paths_start_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path / "a.png")
    given = ["a.png", None, "https://x/b.png", "/c.png"]
    kinds = [given, [[name] for name in given], [{"bytes": None, "path": name} for name in given]]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for cells, kind in zip(kinds, (pa.string(), pa.list_(pa.string()), struct), strict=True):
        table = with_absolute_paths(pa.table({"image": pa.array(cells, kind)}), ["image"])
        found = str(table["image"].to_pylist())
        assert found == str(cells).replace("'a.png'", repr(here))


def test_a_list_of_dicts() -> None:
    given = [{"image": solid_image((1, 2, 3)), "title": "t"}, {"image": b"x"}, {"image": None}]
    rows = rows_of(given, "image")
    assert rows.table["title"].to_pylist() == ["t", None, None]
    back = rows.give_back(NEW)
    assert back[0] == {**given[0], "caption": "a", "outcome": "ok"}
    assert back[1]["outcome"] == "decode_error"


def test_a_list_of_what_the_job_reads() -> None:
    assert rows_of(["eins", None, "zwei"], "text").table["text"].to_pylist() == [
        "eins",
        None,
        "zwei",
    ]
    paths = rows_of([Path("a.png"), "https://x/b.png"], "image").table["image"].to_pylist()
    assert paths == [str(Path("a.png").absolute()), "https://x/b.png"]
    mixed = rows_of(["a.png", solid_image((7, 8, 9)), bytearray(b"z")], "image")
    first, second, third = mixed.table["image"].to_pylist()
    assert first == {"bytes": None, "path": "a.png"}
    assert opened(second["bytes"]).getpixel((1, 1)) == (7, 8, 9)
    assert third == {"bytes": b"z", "path": None}
    assert mixed.give_back(NEW) == NEW.to_pylist()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "YCbCr"])
def test_an_image_of_any_mode_is_kept(mode: str) -> None:
    given = Image.new(mode, (5, 2))
    (body,) = rows_of([given], "image").table["image"].to_pylist()
    assert opened(body).convert("RGB").tobytes() == given.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("given", "fault"),
    [(3, "cannot read a int"), ([1, 2], "cannot hold int"), ({"a": 1}, "cannot read a dict")],
)
def test_what_is_no_input_is_refused(given: Any, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        rows_of(given, "text")


def test_only_what_a_job_reads_is_written(tmp_path: Path) -> None:
    table = pa.table({"a": [1], "text": ["x"], "b": [2]})
    path = write_rows(table, ["text"], locate(str(tmp_path / "in")))
    assert pq.read_table(path).to_pydict() == {"text": ["x"]}
    # A column that is not there is the run's to tell, with all there are.
    path = write_rows(table, ["txet"], locate(str(tmp_path / "in")))
    assert pq.read_table(path).column_names == ["a", "text", "b"]


def hugging_face() -> datasets.Dataset:
    images = [
        {"bytes": rows_of([solid_image((n, 0, 0))], "i").table["i"][0].as_py()} for n in range(4)
    ]
    made = datasets.Dataset.from_dict({"image": images, "n": [0, 1, 2, 3]})
    return made.cast_column("image", datasets.Image())


def test_a_hugging_face_dataset_keeps_its_features() -> None:
    chosen = hugging_face().select([3, 0, 2])
    rows = rows_of(chosen, "image")
    bodies = [cell["bytes"] for cell in rows.table["image"].to_pylist()]
    assert [opened(body).getpixel((0, 0)) for body in bodies] == [(n, 0, 0) for n in (3, 0, 2)]
    back = rows.give_back(NEW)
    assert back["n"] == [3, 0, 2]
    assert back["caption"] == ["a", None, "c"]
    assert back[0]["image"].getpixel((0, 0)) == (3, 0, 0)


def test_a_split_that_is_not_streamed_is_asked_for() -> None:
    for given in (hugging_face().to_iterable_dataset(), datasets.DatasetDict(a=hugging_face())):
        with pytest.raises(UserError, match="one split of a dataset that is not streamed"):
            rows_of(given, "image")


class SlowAtFirst:
    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.3 if row["data"][0, 0, 0] < 5 else 0)
        return {"image": row["data"].astype("uint8")}


@pytest.mark.usefixtures("ray_cluster")
def test_a_ray_dataset_is_written_in_order(tmp_path: Path) -> None:
    import ray.data

    pixels = ray.data.range_tensor(40, shape=(4, 4, 3), override_num_blocks=8)
    # An actor of its own, or Ray would make one task of making and writing.
    dataset = pixels.map(SlowAtFirst, compute=ray.data.ActorPoolStrategy(size=2), num_cpus=0.5)
    write_ray_dataset(dataset, locate(str(tmp_path / "in")))
    files = sorted((tmp_path / "in").iterdir())
    bodies = [body for file in files for body in pq.read_table(file)["image"].to_pylist()]
    assert [opened(body).getpixel((0, 0)) for body in bodies] == [(n, n, n) for n in range(40)]
