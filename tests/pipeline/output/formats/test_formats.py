"""Every format of parts: what is written comes back, to us with its types and to usual readers."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import math
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.contract.config import OUTPUT_FORMATS
from pipeline.contract.errors import UserError
from pipeline.output.formats import FORMATS, check_columns, format_of
from pipeline.output.formats.values import as_text
from pipeline.output.parts import (
    Committed,
    commit_record,
    open_parts,
    part_name,
    part_schema,
    read_committed,
    read_part,
    read_whole_part,
    remove_part,
    save_part,
)
from pipeline.storage.location import INTERNAL, Location, locate
from tests.pipeline.sample_images import encoded, jpeg, plain

ODD = 'two "lines",\r\nof\ntext\u2028and\ttab; 日本語 🎈'
NOT_PARQUET = [name for name in OUTPUT_FORMATS if name != "parquet"]
EPOCH = datetime.datetime(2024, 2, 29, 12, 30, 1, 250, tzinfo=datetime.UTC)


def save(
    folder: Path, form: str, table: pa.Table, answer: str | None = "caption", index: int = 0
) -> Location:
    """A part of an OUTPUT, whose rows come in two tables."""
    part = locate(str(folder)) / part_name(index, "u", FORMATS[form].suffix)
    unit = {"id": "u", "index": index, "files": ["f"], "start": 0, "stop": table.num_rows}
    outcomes = {"ok": table.num_rows}
    record = commit_record({"id": "run"}, unit, outcomes, 1, answer)
    tables = [table.slice(0, 1), table.slice(1)]
    assert save_part(part, table.schema, tables, record, replaces=None)
    return part


def everything() -> pa.Table:
    """Three rows of every type that an input or a result has: ordinary, odd and null."""
    when = datetime.datetime(2024, 2, 29, 12, 30, 1, 250)
    columns: Mapping[str, tuple[pa.DataType, list[Any]]] = {
        "text": (pa.string(), [ODD, "", None]),
        "large": (pa.large_string(), ["x", ODD, None]),
        "flag": (pa.bool_(), [True, False, None]),
        "small": (pa.int8(), [-128, 127, None]),
        "long": (pa.int64(), [2**63 - 1, -(2**63), None]),
        "unsigned": (pa.uint64(), [2**64 - 1, 0, None]),
        "single": (pa.float32(), [0.1, -1e30, None]),
        "double": (pa.float64(), [0.1, 1e-300, None]),
        "money": (pa.decimal128(20, 4), [decimal.Decimal("1.5000"), decimal.Decimal("-2"), None]),
        "day": (pa.date32(), [when.date(), datetime.date(1900, 1, 1), None]),
        "at": (pa.timestamp("us"), [when, datetime.datetime(1969, 12, 31), None]),
        "zoned": (pa.timestamp("ms", "UTC"), [EPOCH, EPOCH, None]),
        "local": (pa.timestamp("s", "Europe/Paris"), [EPOCH.replace(microsecond=0)] * 2 + [None]),
        "clock": (pa.time64("us"), [when.time(), datetime.time(), None]),
        "took": (pa.duration("ms"), [datetime.timedelta(seconds=1), datetime.timedelta(), None]),
        "list": (pa.list_(pa.string()), [["a, b", None], [], None]),
        "pair": (pa.list_(pa.int16(), 2), [[1, 2], [3, None], None]),
        "object": (pa.struct([("x", pa.int64()), ("y", pa.list_(pa.string()))]), [
            {"x": 1, "y": [ODD]}, {"x": None, "y": None}, None,
        ]),
        "map": (pa.map_(pa.string(), pa.int32()), [[("a", 1), ("b", None)], [], None]),
        "kind": (pa.dictionary(pa.int32(), pa.string()), ["cat", "dog", None]),
        "nothing": (pa.null(), [None] * 3),
        "caption": (pa.string(), ["a cat", "", None]),
        "outcome": (pa.string(), ["ok", "ok", "engine_error"]),
    }  # fmt: skip
    arrays = {name: pa.array(values, type_) for name, (type_, values) in columns.items()}
    return pa.table(arrays)


def images() -> list[bytes | None]:
    """A JPEG, one that is none, and none."""
    return [jpeg(), b"\0broken", None]


def captions(rows: int = 3) -> pa.Table:
    """As a job over a folder of images gives, with the images."""
    return pa.table(
        {
            "path": [f"sub/{n}.v1.jpg" for n in range(rows)],
            "image": [jpeg((n, 0, 0)) for n in range(rows)],
            "caption": [f"picture {n}" for n in range(rows)],
            "outcome": ["ok"] * rows,
            "error": pa.nulls(rows, pa.string()),
        }
    )


def test_there_is_a_module_for_each_format_that_a_user_may_name() -> None:
    assert [*FORMATS] == [*OUTPUT_FORMATS]
    assert len({form.suffix for form in FORMATS.values()}) == len(FORMATS)
    with pytest.raises(UserError, match="does not know"):
        format_of("part-00000000-u.orc")


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_rows_come_back_with_their_types(tmp_path: Path, form: str) -> None:
    table = everything()
    part = save(tmp_path, form, table)
    rows, record = read_whole_part(part)
    assert part_schema(part).remove_metadata() == rows.schema.remove_metadata()
    assert rows.schema.equals(table.schema) or form == "parquet"  # which has no fixed-size lists
    assert rows.to_pylist() == table.to_pylist()
    assert record["run"] == {"id": "run"}
    assert read_committed(part) == Committed("u", 3, {"ok": 3}, 1)
    some = read_part(part, lambda field: field.name in ("caption", "object"))
    assert some.to_pydict() == table.select(["object", "caption"]).to_pydict()
    assert read_part(part, lambda _: False).num_columns == 0


def times() -> pa.Table:
    """Dates and times whose text Arrow does not read, or reads as another, beside ordinary ones."""
    last, far = 253402300799, 1700000000000  # the end of 9999; milliseconds taken for seconds
    berlin = pa.timestamp("us", "Europe/Berlin")
    columns: Mapping[str, tuple[pa.DataType, list[Any]]] = {
        "seconds": (pa.timestamp("s"), [far, last + 1, -(10**11), 0, None]),
        "zoned": (berlin, [last * 10**6, -2840000000 * 10**6, 1, 0, None]),
        "day": (pa.date32(), [2932897, -800000, 0, 1, None]),
        "old": (pa.date64(), [86_400_000 * 2932897, 0, 86_400_000, 0, None]),
        "clock": (pa.time32("s"), [90_000, 1, 86_399, 0, None]),
        "list": (pa.list_(pa.timestamp("s")), [[far, 1], [1], [], [None], None]),
        "object": (
            pa.struct([("at", berlin), ("x", pa.float64())]),
            [
                {"at": last * 10**6, "x": 1.0},
                {"at": 1, "x": None},
                {"at": None, "x": 2.0},
                None,
                None,
            ],
        ),
        "of": (pa.map_(pa.string(), pa.date32()), [[("a", 2932897)], [("b", 1)], [], None, None]),
    }
    named = {name: pa.array(values, type_) for name, (type_, values) in columns.items()}
    packed = {f"{name} packed": named[name].dictionary_encode() for name in ("seconds", "day")}
    return pa.table({"row_key": list("abcde"), **named, **packed, "caption": ["x"] * 5})


@pytest.mark.parametrize("form", NOT_PARQUET)
def test_times_beyond_what_is_read_as_text_come_back(tmp_path: Path, form: str) -> None:
    table = times()
    found, _ = read_whole_part(save(tmp_path, form, table))
    for name in table.column_names:
        assert found[name].combine_chunks().equals(table[name].combine_chunks()), name


def test_times_are_numbers_only_where_their_text_is_not_read(tmp_path: Path) -> None:
    part = save(tmp_path, "jsonl", times())
    rows = [json.loads(line) for line in part.read().decode().splitlines()]
    assert [row["seconds"] for row in rows] == [
        1700000000000,
        253402300800,
        -(10**11),
        "1970-01-01 00:00:00",
        None,
    ]
    assert [row["clock"] for row in rows] == [90_000, "00:00:01", "23:59:59", "00:00:00", None]


@pytest.mark.parametrize("form", NOT_PARQUET)
def test_a_part_that_is_read_and_written_again_is_the_same(tmp_path: Path, form: str) -> None:
    first = save(tmp_path / "a", form, everything())
    rows, _ = read_whole_part(first)
    assert save(tmp_path / "b", form, rows).read() == first.read()


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_all_parts_are_one_dataset(tmp_path: Path, form: str) -> None:
    for index in range(3):
        save(tmp_path, form, everything(), index=index)
    data = open_parts(locate(str(tmp_path)))
    assert data.schema.field("long").type == pa.int64()
    expected = everything()["long"].to_pylist() * 3
    assert data.to_table(columns=["long"])["long"].to_pylist() == expected
    assert data.count_rows() == 9
    assert data.to_table(columns=["caption"]) == data.to_table(columns=["caption"])  # twice


@pytest.mark.parametrize("form", NOT_PARQUET)
def test_what_no_text_can_hold_is_null_or_replaced(tmp_path: Path, form: str) -> None:
    text = pa.array([b"caf\xe9", b"b", b"c"]).cast(pa.string(), safe=False)
    nested = pa.StructArray.from_arrays([text], ["t"])
    values = [math.nan, math.inf, 1.0]
    table = pa.table({"t": text, "s": nested, "v": values, "caption": ["a"] * 3})
    rows, _ = read_whole_part(save(tmp_path, form, table))
    assert rows["t"].to_pylist() == ["caf\ufffd", "b", "c"]
    assert rows["s"].to_pylist()[0] == {"t": "caf\ufffd"}
    assert rows["v"].to_pylist() == [None, None, 1.0]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_part_that_others_changed_is_not_taken_for_ours(tmp_path: Path, form: str) -> None:
    part = save(tmp_path, form, captions().drop_columns("image"))
    Path(part.path).write_bytes(part.read().replace(b"picture 1", b"picture 9"))
    with pytest.raises(UserError, match="is not as it was written"):
        read_committed(part)


@pytest.mark.parametrize("form", OUTPUT_FORMATS)
def test_a_part_is_removed_with_what_lies_beside_it(tmp_path: Path, form: str) -> None:
    part = save(tmp_path, form, captions().drop_columns("image"))
    remove_part(part)
    assert read_committed(part) is None
    assert [info.path for info in locate(str(tmp_path)).tree()] == []


def test_a_column_that_a_format_cannot_hold_is_refused() -> None:
    image = pa.schema([("image", pa.binary())])
    for form in ("parquet", "jsonl", "webdataset"):
        check_columns(form, image)
    with pytest.raises(UserError, match=r"csv cannot hold column 'image', which is binary; leave"):
        check_columns("csv", image)
    nested = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
    with pytest.raises(UserError, match="cannot hold column 'image'"):
        check_columns("csv", nested)
    odd = pa.schema([("i", pa.list_(pa.month_day_nano_interval()))])
    twice = pa.schema([("a", pa.string()), ("a", pa.string())])
    for form in NOT_PARQUET:
        with pytest.raises(UserError, match=f"{form} cannot hold column 'i'"):
            check_columns(form, odd)
        with pytest.raises(UserError, match="two columns 'a'"):
            check_columns(form, twice)


def test_only_what_keep_images_keeps_is_told_with_it() -> None:
    """Binary of a fixed size, a hash say, passes through in any case."""
    for type_, hint in ((pa.binary(4), ""), (pa.list_(pa.binary()), "; leave out keep_images")):
        with pytest.raises(UserError) as refusal:
            check_columns("csv", pa.schema([("x", type_)]))
        assert str(refusal.value).endswith(f"which is {type_}{hint}; use parquet")


def test_json_lines_are_read_by_pandas_and_json(tmp_path: Path) -> None:
    part = save(tmp_path, "jsonl", everything())
    lines = part.read().decode().split("\n")
    assert lines.pop() == ""
    rows = [json.loads(line) for line in lines]
    assert [row["text"] for row in rows] == [ODD, "", None]
    assert rows[0]["object"] == {"x": 1, "y": [ODD]}
    assert (rows[0]["map"], rows[0]["at"]) == (
        [["a", 1], ["b", None]],
        "2024-02-29 12:30:01.000250",
    )
    assert rows[0]["long"] == 2**63 - 1
    frame = pd.read_json(part.path, lines=True)
    assert frame["text"].tolist()[:2] == [ODD, ""]


def test_images_in_json_lines_are_base64(tmp_path: Path) -> None:
    part = save(tmp_path, "jsonl", captions())
    row = json.loads(part.read().split(b"\n")[0])
    assert row["image"].startswith("/9j/")
    assert read_whole_part(part)[0] == captions()


def test_csv_is_read_by_pandas_and_csv(tmp_path: Path) -> None:
    part = save(tmp_path, "csv", everything())
    text = part.read().decode()
    rows = [*csv.DictReader(io.StringIO(text, newline=""), strict=True)]
    assert [row["text"] for row in rows] == [ODD, "", ""]
    assert json.loads(rows[0]["object"]) == {"x": 1, "y": [ODD]}
    assert [row["flag"] for row in rows] == ["true", "false", ""]
    frame = pd.read_csv(part.path, dtype_backend="pyarrow", keep_default_na=False, na_values=[""])
    assert frame["text"].tolist()[0] == ODD
    assert frame["long"].tolist()[:2] == [2**63 - 1, -(2**63)]
    assert text.startswith('"text","large",')
    assert text.endswith("\r\n")


def test_csv_keeps_the_paths_of_images_as_hugging_face_datasets_have_them(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": None, "path": "a.png"}, None], kind)
    table = pa.table({"image": images, "caption": ["a", "b"]})
    part = save(tmp_path, "csv", table)
    assert read_whole_part(part)[0].to_pylist() == table.to_pylist()
    rows = [*csv.DictReader(io.StringIO(part.read().decode(), newline=""))]
    assert json.loads(rows[0]["image"]) == {"bytes": None, "path": "a.png"}


def test_a_shard_is_read_by_tar_and_datasets(tmp_path: Path) -> None:
    part = save(tmp_path, "webdataset", captions(7))
    with tarfile.open(part.path) as tar:
        names = tar.getnames()
        assert names[:3] == ["sub/0_v1.jpg", "sub/0_v1.txt", "sub/0_v1.json"]
        assert len(names) == 21
        assert tar.extractfile("sub/3_v1.txt").read() == b"picture 3"  # type: ignore[union-attr]
    files = {"train": part.path}
    rows = datasets.load_dataset(
        "webdataset", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows["txt"][:] == [f"picture {n}" for n in range(7)]
    assert rows[0]["jpg"].size == (32, 24)
    assert rows[3]["__key__"] == "sub/3_v1"
    assert rows[3]["json"]["path"] == "sub/3.v1.jpg"


def test_a_shard_is_read_by_webdataset(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    part = save(tmp_path, "webdataset", captions(7))
    read = webdataset.WebDataset(part.path, shardshuffle=False).decode("pil")
    rows = [*read.to_tuple("__key__", "jpg", "txt", "json")]
    assert [key for key, *_ in rows] == [f"sub/{n}_v1" for n in range(7)]
    assert [text for _, _, text, _ in rows] == [f"picture {n}" for n in range(7)]
    assert rows[3][1].size == (32, 24)
    assert rows[3][3]["outcome"] == "ok"


@pytest.mark.parametrize("form", ["jsonl", "webdataset"])
@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])]
)
def test_images_come_back_as_they_were(tmp_path: Path, form: str, kind: pa.DataType) -> None:
    values: list[Any] = images()
    if pa.types.is_struct(kind):
        values = [{"bytes": body, "path": f"{n}.jpg"} for n, body in enumerate(values)] + [None]
    else:
        values.append(b"")
    table = pa.table(
        {
            "image": pa.array(values, kind),
            "seg.png": pa.array([b"seg", None, b"", b"x"]),
            "Odd name/": pa.array([b"odd", None, b"", b"x"]),
            "several": pa.array([[b"a", None], [], None, [b"b"]], pa.list_(pa.binary())),
            "caption": ["a", None, "", "d"],
        }
    )
    part = save(tmp_path, form, table)
    assert read_whole_part(part)[0].to_pylist() == table.to_pylist()
    one = read_part(part, lambda field: field.name == "caption")
    assert one["caption"].to_pylist() == ["a", None, "", "d"]


def test_the_members_of_a_shard(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "b/c.d.webp", "https://x/y.jpg", "../../up.jpg", "", None, "a.b"]
    bodies = [
        jpeg(), encoded(plain(), "PNG"), b"broken", b"x", encoded(plain(), "WEBP"), None, b"x",
        b"x",
    ]  # fmt: skip
    table = pa.table(
        {
            "path": pa.array(names, pa.string()),
            "image": bodies,
            "npy": pa.array([b"1"] + [None] * 7, pa.binary()),
            "tags": [["red", "round"]] + [None] * 7,
        }
    )
    part = save(tmp_path, "webdataset", table, answer="tags")
    with tarfile.open(part.path) as tar:
        found = tar.getnames()
        assert tar.extractfile("a.txt").read() == b"red, round"  # type: ignore[union-attr]
    assert found[:4] == ["a.jpg", "a.npy", "a.txt", "a.json"]
    assert found[4:6] == ["a-u-00000001.png", "a-u-00000001.json"]
    assert found[6:8] == ["b/c_d.bin", "b/c_d.json"]
    assert found[8:10] == ["u-00000003.bin", "u-00000003.json"]
    assert found[10:12] == ["up.webp", "up.json"]
    assert found[12:] == [
        "u-00000005.json", "u-00000006.bin", "u-00000006.json", "a_b.bin", "a_b.json",
    ]  # fmt: skip
    assert read_whole_part(part)[0].to_pylist() == table.to_pylist()


def test_an_output_of_shards_is_an_input(tmp_path: Path) -> None:
    from pipeline.sources import list_input, open_source
    from pipeline.sources.units import Unit

    save(tmp_path, "webdataset", captions(5))
    listing = list_input(str(tmp_path))
    source = open_source(listing, unit_rows=10, keep_images=True)
    (cut,) = source.cut(listing.files)
    unit = Unit(index=0, id="v", part="p", files=cut.files, start=cut.start, stop=cut.stop)
    rows = pa.concat_tables(source.passthrough(unit)).to_pylist()
    assert [row["txt"] for row in rows] == [f"picture {n}" for n in range(5)]
    assert rows[2]["image"] == jpeg((2, 0, 0))
    assert not [*tmp_path.glob(f"{INTERNAL}/records/*")]


def test_an_answer_as_text() -> None:
    assert as_text("a, b") == "a, b"
    assert as_text(["a", "b"]) == "a, b"
    assert as_text({"é": [1]}) == '{"é": [1]}'
    assert as_text([1, 2]) == "[1, 2]"


def test_a_shard_that_was_damaged_is_told(tmp_path: Path) -> None:
    part = save(tmp_path, "webdataset", captions())
    Path(part.path).write_bytes(b"not a shard" * 100)
    with pytest.raises(UserError, match="is not as it was written; put it back"):
        read_committed(part)
