from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.images import ImageLimits, load_image
from pipeline.sources import Source, check_columns, open_source
from pipeline.storage import locate
from pipeline.task import ColumnKind
from tests.pipeline.pictures import encoded, jpeg, plain

HF_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def source_of(path: Path, *, unit_rows: int = 10, keep_images: bool = False) -> Source:
    return open_source(locate(str(path)), unit_rows=unit_rows, keep_images=keep_images)


def numbers(path: Path, start: int, stop: int, row_group_size: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"n": range(start, stop)}), path, row_group_size=row_group_size)


def read_all(source: Source, columns: list[str]) -> list[dict[str, object]]:
    return [row for u in source.units() for t in source.read(u, columns) for row in t.to_pylist()]


def passed_through(source: Source) -> pa.Table:
    return pa.concat_tables(table for u in source.units() for table in source.passthrough(u))


def test_every_row_is_read_once_in_input_order(tmp_path: Path) -> None:
    numbers(tmp_path / "b.parquet", 7, 40, row_group_size=4)
    numbers(tmp_path / "sub/deep/c.parquet", 40, 75, row_group_size=100)  # larger than a unit
    numbers(tmp_path / "a.parquet", 0, 7)
    numbers(tmp_path / "c.parquet", 75, 75)  # no rows
    numbers(tmp_path / "_hidden/x.parquet", 900, 910)
    numbers(tmp_path / ".x.parquet", 900, 910)
    source = source_of(tmp_path)
    assert [row["n"] for row in read_all(source, ["n"])] == [*range(75)]
    assert passed_through(source)["n"].to_pylist() == [*range(75)]
    assert [unit.index for unit in source.units()] == [*range(len(source.units()))]
    assert all(unit.rows <= 10 for unit in source.units())


def test_a_single_file_is_an_input(tmp_path: Path) -> None:
    numbers(tmp_path / "only.data", 0, 12)
    assert [row["n"] for row in read_all(source_of(tmp_path / "only.data"), ["n"])] == [*range(12)]


def test_unit_ids_stay_when_the_folder_moves_or_grows(tmp_path: Path) -> None:
    numbers(tmp_path / "in/a.parquet", 0, 25)
    numbers(tmp_path / "in/b.parquet", 25, 50)
    before = [unit.id for unit in source_of(tmp_path / "in").units()]
    shutil.move(tmp_path / "in", tmp_path / "elsewhere")
    assert [unit.id for unit in source_of(tmp_path / "elsewhere").units()] == before
    numbers(tmp_path / "elsewhere/aa.parquet", 0, 5)
    after = [unit.id for unit in source_of(tmp_path / "elsewhere").units()]
    assert [unit for unit in after if unit in before] == before
    assert len(after) == len(before) + 1
    numbers(tmp_path / "elsewhere/b.parquet", 60, 85)  # changed: other ids
    changed = {unit.id for unit in source_of(tmp_path / "elsewhere").units()}
    assert changed.isdisjoint(before[3:])
    assert changed.issuperset(before[:3])


@pytest.mark.parametrize("form", ["binary", "large_binary", "struct", "bytes-only", "string"])
@pytest.mark.parametrize("keep", [False, True])
def test_every_form_of_image_column_gives_its_picture(
    tmp_path: Path, form: str, keep: bool
) -> None:
    colours = [(10, 200, 30), (40, 50, 220)]
    bodies = [encoded(plain(colour), "PNG") for colour in colours]
    (tmp_path / "pictures").mkdir()
    for number, body in enumerate(bodies):
        (tmp_path / f"pictures/{number}.png").write_bytes(body)
    paths = ["pictures/0.png", str(tmp_path / "pictures/1.png")]  # relative, absolute
    columns = {
        "binary": pa.array(bodies, pa.binary()),
        "large_binary": pa.array(bodies, pa.large_binary()),
        "struct": pa.array([{"bytes": bodies[0]}, {"path": paths[1]}], HF_IMAGE),
        "bytes-only": pa.array([{"bytes": b} for b in bodies], pa.struct([("bytes", pa.binary())])),
        "string": pa.array(paths, pa.string()),
    }
    pq.write_table(pa.table({"image": columns[form], "n": [1, 2]}), tmp_path / "t.parquet")
    source = source_of(tmp_path, keep_images=keep)
    check_columns(source.schema, {"image": ColumnKind.IMAGE})
    limits = ImageLimits(10**6, 10**6)
    values = [row["image"] for row in read_all(source, ["image"])]
    pictures = [load_image(value, source.root, limits) for value in values]
    assert [picture.getpixel((3, 3)) for picture in pictures] == colours
    if keep:
        assert passed_through(source)["image"].combine_chunks() == columns[form]
        assert source.passthrough_schema.field("image").type == columns[form].type


def test_pass_through_keeps_types_and_drops_bytes(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([1, 2, None], pa.int8()),
            "raw": pa.array([b"x", b"y", None], pa.binary()),
            "raws": pa.array([[b"x"], [], None], pa.list_(pa.binary())),
            "when": pa.array([1, 2, 3], pa.timestamp("us", "UTC")),
            "tags": pa.array([["a"], [], None], pa.list_(pa.string())),
            "image": pa.array([{"bytes": b"1", "path": "a.jpg"}, {"bytes": b"2"}, None], HF_IMAGE),
            "kind": pa.array(["u", "v", "u"]).dictionary_encode(),
            "deep": pa.array(
                [{"a": {"b": 1}}, None, {}], pa.struct([("a", pa.struct([("b", pa.int32())]))])
            ),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    out = passed_through(source_of(tmp_path))
    assert out.column_names == ["id", "when", "tags", "image", "kind", "deep"]
    for name in ("id", "when", "tags", "kind", "deep"):
        assert out.schema.field(name).type == table.schema.field(name).type
        assert out[name].to_pylist() == table[name].to_pylist()
    assert out.schema.field("image").type == HF_IMAGE
    assert out["image"].to_pylist() == [
        {"bytes": None, "path": "a.jpg"},
        {"bytes": None, "path": None},
        None,
    ]


def test_a_table_of_pictures_alone_still_has_its_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"1", b"2", b"3"]}), tmp_path / "t.parquet")
    source = source_of(tmp_path)
    (table,) = source.passthrough(source.units()[0])
    assert (table.num_rows, table.column_names) == (3, [])


def test_a_folder_of_pictures_is_a_table_of_paths(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "sub/c.webp", "_skip/d.jpg", ".e.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg())
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()  # a picture that fails, not one that is left out
    source = source_of(tmp_path, unit_rows=2)
    paths = ["a.PNG", "b.jpg", "empty.jpg", "sub/c.webp"]
    assert [unit.files for unit in source.units()] == [
        ("a.PNG", "b.jpg"),
        ("empty.jpg", "sub/c.webp"),
    ]
    assert [row["image"] for row in read_all(source, ["image"])] == paths
    assert passed_through(source).to_pydict() == {"path": paths}
    kept = passed_through(source_of(tmp_path, keep_images=True)).to_pydict()
    assert kept == {"path": paths, "image": [jpeg(), jpeg(), b"", jpeg()]}
    before = [unit.id for unit in source.units()]
    os.utime(tmp_path / "b.jpg", ns=(1, 1))
    after = [unit.id for unit in source_of(tmp_path, unit_rows=2).units()]
    assert (after[0] == before[0], after[1] == before[1]) == (False, True)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        source_of(path)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_inputs_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent") == f"INPUT {tmp_path}/absent does not exist"
    assert "is empty" in refused(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert "neither parquet files nor pictures" in refused(tmp_path)
    assert "is not a readable parquet file" in refused(tmp_path / "notes.txt")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but no more")
    assert f"{tmp_path}/a.parquet is not a readable parquet file" in refused(tmp_path)
    numbers(tmp_path / "a.parquet", 0, 0)
    assert "has no rows" in refused(tmp_path)
    numbers(tmp_path / "a.parquet", 0, 3)
    pq.write_table(pa.table({"n": ["text"]}), tmp_path / "b.parquet")
    message = "column 'n' is int64 in a.parquet and string in b.parquet; run them apart"
    assert refused(tmp_path) == message


def test_wrong_columns_are_named_with_the_nearest() -> None:
    schema = pa.schema([("picture", pa.binary()), ("count", pa.int64())])
    with pytest.raises(
        UserError, match=r"no column 'pictrue'; did you mean 'picture'\? its columns"
    ):
        check_columns(schema, {"pictrue": ColumnKind.IMAGE})
    with pytest.raises(UserError, match="column 'count' is int64; an image column is binary"):
        check_columns(schema, {"count": ColumnKind.IMAGE})
    check_columns(schema, {"count": ColumnKind.VALUE, "picture": ColumnKind.IMAGE})
