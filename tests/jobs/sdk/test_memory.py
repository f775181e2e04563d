"""Data in memory: to parquet and back to the same kind, in order."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import caption
from jobs.sdk.memory import (
    first_local_path,
    rows_of,
    with_absolute_paths,
)
from jobs.sdk.parquet_files import (
    FILE_ROWS,
    FILE_ROWS_OF_BINARY,
    in_one_piece,
    write_ray_dataset,
    write_rows,
)
from pipeline import UserError
from pipeline.storage.location import Location, locate
from pipeline.storage.ray_memory import ray_folder

NEW = pa.table({"caption": ["a", None, "c"], "outcome": ["ok", "decode_error", "ok"]})


def solid_image(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (4, 3), colour)


def opened(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(body))


def test_a_format_is_that_of_files() -> None:
    with pytest.raises(UserError, match="output_format: is that of files; name an output, or"):
        caption([b"an image"], model="demo", output_format="jsonl")


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
        None,
        {"bytes": b"x", "path": None},
        {"bytes": None, "path": "a.png"},
    ]
    assert table.column_names == ["n", "image"]
    with pytest.raises(UserError, match="column 'n' cannot be read"):
        rows_of(given, "image")


def test_what_the_job_does_not_read_may_be_anything() -> None:
    frame = pd.DataFrame({"text": ["a", None], "x": ["a", 3]})
    assert rows_of(frame, "text", ["text"]).table["text"].to_pylist() == ["a", None]


@pytest.fixture
def folder(ray_cluster: None) -> Iterator[Location]:  # noqa: ARG001
    with ray_folder() as uri:
        yield locate(uri)


def read_back(folder: Location) -> pa.Table:
    """The rows of the files of a folder."""
    bodies = [(folder / file.path).read() for file in folder.tree()]
    return pa.concat_tables(pq.read_table(pa.BufferReader(body)) for body in bodies)


def test_half_a_surrogate_pair_is_its_rows_fault(folder: Location) -> None:
    table = rows_of(["good", "bad \ud800", None], "text").table
    read = read_back(write_rows(table, folder))["text"]
    assert (read[0].as_py(), read[2].as_py()) == ("good", None)
    with pytest.raises(UnicodeDecodeError):
        read[1].as_py()


def test_relative_paths_start_here() -> None:
    here = "/here/a.png"
    given = ["a.png", None, "https://x/b.png", "/c.png"]
    kinds = [given, [[name] for name in given], [{"bytes": None, "path": name} for name in given]]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for cells, kind in zip(kinds, (pa.string(), pa.list_(pa.string()), struct), strict=True):
        table = pa.table({"image": pa.array(cells, kind)})
        table = with_absolute_paths(table, ["image"], "/here")
        assert first_local_path(table, ["image"]) == here
        found = str(table["image"].to_pylist())
        assert found == str(cells).replace("'a.png'", repr(here))


def of_two_gigabytes() -> pa.Table:
    """More bytes of images than one chunk of structs can hold; no page of them is ever touched."""
    body = pa.py_buffer(bytes(1_100_000_000))
    offsets = pa.py_buffer(np.array([0, len(body)], np.int32))
    image = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, body])
    cells = pa.StructArray.from_arrays([image, pa.array(["a.png"])], names=["bytes", "path"])
    named = pa.array([{"bytes": None, "path": "b.png"}], cells.type)
    return pa.table({"image": pa.chunked_array([cells, cells, named])})


def test_images_in_memory_may_be_of_any_size() -> None:
    table = with_absolute_paths(of_two_gigabytes(), ["image"], "/here")
    paths = [chunk.field("path").to_pylist() for chunk in table["image"].chunks]
    assert paths == [["a.png"], ["a.png"], ["/here/b.png"]]
    assert [len(chunk) for chunk in in_one_piece(table)["image"].chunks] == [1, 1, 1]
    small = pa.table({"n": pa.chunked_array([[1], [2, 3]])})
    assert [len(chunk) for chunk in in_one_piece(small)["n"].chunks] == [3]


BYTES = b"\xff\xd8\xff\xe0"


@pytest.mark.parametrize(
    ("cells", "due"),
    [
        ([[BYTES, "a.jpg"]], [[(BYTES, None), (None, "/here/a.jpg")]]),
        ([[BYTES], None, ["a.jpg"], []], [[(BYTES, None)], None, [(None, "/here/a.jpg")], []]),
        ([{"bytes": None, "path": "a.jpg"}], [(None, "/here/a.jpg")]),
        ([{"bytes": BYTES}, "a.jpg"], [(BYTES, None), (None, "/here/a.jpg")]),
        ([[{"path": "a.jpg"}, BYTES]], [[(None, "/here/a.jpg"), (BYTES, None)]]),
    ],
)
def test_paths_and_bytes_may_be_mixed(cells: list[Any], due: list[Any]) -> None:
    table = rows_of([{"image": cell} for cell in cells], "image").table
    found = with_absolute_paths(table, ["image"], "/here")["image"].to_pylist()

    def pair(cell: Any) -> Any:
        if isinstance(cell, list):
            return [pair(item) for item in cell]
        return cell and (cell["bytes"], cell["path"])

    assert [pair(cell) for cell in found] == due


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_list(pa.string()),
        pa.list_(pa.string(), 1),
        pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    ],
    ids=str,
)
def test_paths_in_every_kind_of_list_start_here(kind: pa.DataType) -> None:
    is_struct = pa.types.is_struct(kind.value_type)
    cell = [{"bytes": None, "path": "a.jpg"} if is_struct else "a.jpg"]
    table = pa.table({"image": pa.array([cell, None], kind)})
    found, none = with_absolute_paths(table, ["image"], "/here")["image"].to_pylist()
    assert (found[0]["path"] if is_struct else found[0]) == "/here/a.jpg"
    assert none is None


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


def test_paths_that_are_on_no_disk_are_no_local_ones() -> None:
    table = pa.table({"image": [None, "https://x/a.png", "s3://b/a.png"], "other": ["/a"] * 3})
    assert first_local_path(table, ["image"]) is None
    assert first_local_path(pa.table({"image": [b"/a"]}), ["image"]) is None


def test_the_same_rows_give_the_same_files_and_others_other_ones(ray_cluster: None) -> None:  # noqa: ARG001
    def files(texts: list[str]) -> dict[str, str]:
        with ray_folder() as uri:
            written = write_rows(pa.table({"text": texts}), locate(uri))
            return {file.path: file.stamp for file in written.tree()}

    texts = [f"{n:09}" for n in range(2 * FILE_ROWS + 1)]
    before = files(texts)
    assert len(before) == 3
    assert files(texts) == before
    # As long as before, and the same at both ends, which is all that is read of a file on a disk.
    texts[FILE_ROWS // 2] = "123456789"
    assert not files(texts).keys() & before.keys()
    assert not files(texts[:-1]).keys() & before.keys()


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


def test_a_ray_dataset_is_written_in_order(folder: Location) -> None:
    import ray.data

    pixels = ray.data.range_tensor(40, shape=(4, 4, 3), override_num_blocks=8)
    # An actor of its own, or Ray would make one task of making and writing.
    dataset = pixels.map(SlowAtFirst, compute=ray.data.ActorPoolStrategy(size=2), num_cpus=0.5)
    bodies = read_back(write_ray_dataset(dataset, folder, same))["image"].to_pylist()
    assert [opened(body).getpixel((0, 0)) for body in bodies] == [(n, n, n) for n in range(40)]


def test_how_a_ray_dataset_is_cut_does_not_change_its_files(ray_cluster: None) -> None:  # noqa: ARG001
    import ray.data

    rows = [{"n": n, "image": b"%d" % n, "rare": None} for n in range(FILE_ROWS_OF_BINARY + 3)]
    rows[-1]["rare"] = "last"

    def files(blocks: int) -> dict[str, str]:
        with ray_folder() as uri:
            dataset = ray.data.from_items(rows, override_num_blocks=blocks)
            written = write_ray_dataset(dataset, locate(uri), same)
            assert read_back(written)["n"].to_pylist() == [row["n"] for row in rows]
            return {file.path: file.stamp for file in written.tree()}

    assert len(files(1)) == 2
    assert files(1) == files(7)


def test_what_is_wrong_with_a_ray_dataset_is_told(folder: Location) -> None:
    import ray.data

    with pytest.raises(UserError, match="rename it"):
        write_ray_dataset(ray.data.range(3), folder, refuse)


def same(table: pa.Table) -> pa.Table:
    return table


def refuse(_: pa.Table) -> pa.Table:
    raise UserError("rename it")
