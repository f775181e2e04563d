from __future__ import annotations

import io
import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.contract.errors import UserError
from pipeline.contract.task import ColumnKind
from pipeline.images import ImageLimits, load_image
from pipeline.sources import check_columns, list_input, open_source, parquet_batches
from pipeline.sources import parquet as parquet_source
from pipeline.storage.location import Location
from tests.pipeline.sample_images import encoded, plain
from tests.pipeline.sources.places import Place, passed_through, rows_of
from tests.stores import S3

HF_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def parquet(table: pa.Table, row_group_size: int = 100) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=row_group_size)
    return buffer.getvalue()


def numbers(start: int, stop: int, row_group_size: int = 100) -> bytes:
    return parquet(pa.table({"n": pa.array(range(start, stop), pa.int64())}), row_group_size)


def test_every_row_is_read_once_in_input_order(place: Place) -> None:
    place.write("b.parquet", numbers(7, 40, row_group_size=4))
    place.write("sub/deep/c.parquet", numbers(40, 75))  # a row group larger than a unit
    place.write("a.parquet", numbers(0, 7))
    place.write("c.parquet", numbers(75, 75))  # no rows
    source = place.source()
    cuts = place.cuts(source)
    assert [row["n"] for row in rows_of(source, cuts, ["n"])] == [*range(75)]
    assert passed_through(source, cuts)["n"].to_pylist() == [*range(75)]
    assert all(0 < cut.stop - cut.start <= 10 for cut in cuts)


def test_a_slice_of_rows_comes_from_the_row_groups_it_touches(place: Place) -> None:
    place.write("a.parquet", numbers(0, 25, row_group_size=25))
    source = place.source(unit_rows=10)
    cuts = place.cuts(source)
    assert [(cut.start, cut.stop) for cut in cuts] == [(0, 8), (8, 16), (16, 25)]
    assert [row["n"] for row in rows_of(source, cuts[1:2], ["n"])] == [*range(8, 16)]


def test_with_the_schema_recorded_no_file_is_opened(place: Place) -> None:
    place.write("a.parquet", numbers(0, 3))
    schema = place.source().schema
    place.write("a.parquet", b"no longer parquet")
    source = open_source(list_input(place.uri), unit_rows=2, keep_images=False, schema=schema)
    assert source.schema == schema
    with pytest.raises(UserError, match=r"a\.parquet is plain text, not parquet; write it"):
        place.cuts(source)
    place.write("a.parquet", parquet(pa.table({"n": ["x"]})))
    message = "'n' is int64 in the files planned before and string in a.parquet; run them apart"
    with pytest.raises(UserError, match=message):
        place.cuts(source)


def test_only_new_files_are_opened_when_they_are_cut(place: Place) -> None:
    place.write("a.parquet", numbers(0, 3))
    place.write("c.parquet", numbers(3, 6))
    source = place.source()
    place.write("b.parquet", b"not parquet, but not asked for")
    first, _, third = place.files()
    assert [cut.files for cut in source.cut([first, third])] == [("a.parquet",), ("c.parquet",)]


def test_a_footer_takes_one_request_for_its_columns_and_its_units(s3: S3) -> None:
    place = Place(s3.url + "/in")
    for number in range(5):
        place.write(f"{number}.parquet", numbers(0, 10_000, row_group_size=100))
    before = len(s3.requests())
    source = place.source(unit_rows=1000)
    assert len([*source.cut(place.files())]) == 50
    asked = [request for request in s3.requests()[before:] if request.endswith(".parquet")]
    bucket = place.uri.removeprefix("s3://")
    assert sorted(asked) == [f"GET /{bucket}/{n}.parquet" for n in range(5)]


def test_a_footer_longer_than_one_read_is_read(place: Place) -> None:
    table = pa.table({f"a_rather_long_column_name_{n}": [n] for n in range(1500)})
    place.write("wide.parquet", parquet(table))
    source = place.source()
    assert len(source.schema) == 1500
    assert [(cut.start, cut.stop) for cut in place.cuts(source)] == [(0, 1)]


def test_a_source_travels_and_does_not_carry_the_listing(tmp_path: Path) -> None:
    sizes = []
    for count in (1, 300):
        place = Place(str(tmp_path / str(count)))
        for number in range(count):
            place.write(f"{number:04d}.parquet", numbers(0, 1))
        source = place.source()
        sizes.append(len(pickle.dumps(source)))
        copy = pickle.loads(pickle.dumps(source))
        assert rows_of(copy, place.cuts(copy)[:1], ["n"]) == [{"n": 0}]
    assert sizes[1] - sizes[0] < 20


@pytest.mark.parametrize("form", ["binary", "large_binary", "struct", "bytes-only", "string"])
@pytest.mark.parametrize("keep", [False, True])
def test_every_form_of_image_column_gives_its_image(tmp_path: Path, form: str, keep: bool) -> None:
    colours = [(10, 200, 30), (40, 50, 220)]
    bodies = [encoded(plain(colour), "PNG") for colour in colours]
    place = Place(str(tmp_path))
    for number, body in enumerate(bodies):
        place.write(f"images/{number}.png", body)
    paths = ["images/0.png", str(tmp_path / "images/1.png")]  # relative, absolute
    columns = {
        "binary": pa.array(bodies, pa.binary()),
        "large_binary": pa.array(bodies, pa.large_binary()),
        "struct": pa.array([{"bytes": bodies[0]}, {"path": paths[1]}], HF_IMAGE),
        "bytes-only": pa.array([{"bytes": b} for b in bodies], pa.struct([("bytes", pa.binary())])),
        "string": pa.array(paths, pa.string()),
    }
    place.write("t.parquet", parquet(pa.table({"image": columns[form], "n": [1, 2]})))
    source = place.source(keep_images=keep)
    cuts = place.cuts(source)
    check_columns(source.schema, {"image": ColumnKind.IMAGE})
    limits = ImageLimits(10**6, 10**6)
    values = [row["image"] for row in rows_of(source, cuts, ["image"])]
    images = [load_image(value, source.root, limits) for value in values]
    assert [image.getpixel((3, 3)) for image in images] == colours
    assert passed_through(source, cuts)["n"].to_pylist() == [1, 2]
    if keep:
        assert passed_through(source, cuts)["image"].combine_chunks() == columns[form]
        assert source.passthrough_schema.field("image").type == columns[form].type


def test_pass_through_keeps_types_and_drops_bytes(place: Place) -> None:
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
    place.write("t.parquet", parquet(table))
    source = place.source()
    out = passed_through(source, place.cuts(source))
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


def test_of_structs_and_lists_of_them_the_bytes_are_left_out(tmp_path: Path) -> None:
    """Several images of a row passed through with all their bytes."""
    image = {"bytes": b"x" * 9, "path": "a.jpg"}
    row = {
        "images": [image, None, image],
        "large": [{"of": image, "n": 1}],
        "meta": {"n": 1, "thumb": b"x", "many": [b"x"], "by": [("a", b"x")], "ids": [1, 2]},
        "text": "long",
        "pair": [image, image],
        "by": [("a", b"x")],
        "hash": b"0123",
    }
    inner = [("n", pa.int64()), ("thumb", pa.binary()), ("many", pa.list_(pa.binary()))]
    by = pa.map_(pa.string(), pa.binary())
    schema = pa.schema(
        {
            "images": pa.list_(HF_IMAGE),
            "large": pa.large_list(pa.struct([("of", HF_IMAGE), ("n", pa.int64())])),
            "meta": pa.struct([*inner, ("by", by), ("ids", pa.list_(pa.int64()))]),
            "text": pa.string(),
            "pair": pa.list_(HF_IMAGE, 2),
            "by": by,
            "hash": pa.binary(4),
        }
    )
    pq.write_table(pa.Table.from_pylist([row, {}], schema=schema), tmp_path / "a.parquet")
    place = Place(str(tmp_path))
    source = place.source()
    passed = passed_through(source, place.cuts(source))
    assert passed.schema == schema
    left = {"bytes": None, "path": "a.jpg"}
    assert passed.to_pylist()[0] == {
        "images": [left, None, left],
        "large": [{"of": left, "n": 1}],
        "meta": {"n": 1, "thumb": None, "many": None, "by": None, "ids": [1, 2]},
        "text": "long",
        "pair": None,  # neither can be read in part
        "by": None,
        "hash": b"0123",
    }
    assert set(passed.to_pylist()[1].values()) == {None}
    assert rows_of(source, place.cuts(source), ["images"])[0] == {"images": row["images"]}


def test_a_file_that_is_cut_off_is_not_read_as_its_footer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last bytes are data, and were taken for the length of a footer."""
    lengths = []
    read_end = parquet_source._read_end

    def noted(where: Location, size: int, length: int) -> bytes:
        lengths.append(length)
        return read_end(where, size, length)

    monkeypatch.setattr(parquet_source, "_read_end", noted)
    for end in (b"\0\0\0\x80data", b"\0\0\0\x80PAR1"):
        (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(100_000) + end)
        with pytest.raises(UserError, match="not a readable parquet file"):
            Place(str(tmp_path)).source()
    assert lengths == [parquet_source.TAIL] * 2


def test_a_table_of_images_alone_still_has_its_rows(place: Place) -> None:
    place.write("t.parquet", parquet(pa.table({"image": [b"1", b"2", b"3"]})))
    source = place.source()
    (table,) = source.passthrough(place.cuts(source)[0])
    assert (table.num_rows, table.column_names) == (3, [])


def test_partition_keys_in_the_path_are_columns(place: Place) -> None:
    place.write("lang=fr/year=2023/a.parquet", numbers(0, 2))
    place.write("lang=pt%2DBR/year=2024/a.parquet", numbers(2, 3))
    place.write("lang=__HIVE_DEFAULT_PARTITION__/year=2024/a.parquet", numbers(3, 4))
    source = place.source()
    assert source.schema == pa.schema(
        [("n", pa.int64()), ("lang", pa.string()), ("year", pa.int64())]
    )
    cuts = place.cuts(source)
    rows = [
        {"n": 3, "lang": None, "year": 2024},
        {"n": 0, "lang": "fr", "year": 2023},
        {"n": 1, "lang": "fr", "year": 2023},
        {"n": 2, "lang": "pt-BR", "year": 2024},
    ]
    assert passed_through(source, cuts).to_pylist() == rows
    assert passed_through(source, cuts).schema == source.passthrough_schema
    assert rows_of(source, cuts, ["year", "n"]) == [{k: r[k] for k in ("year", "n")} for r in rows]
    assert rows_of(source, cuts, ["lang"]) == [{"lang": row["lang"]} for row in rows]


def test_partition_keys_give_way_to_the_file_and_keep_their_type(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    place.write("n=7/a.parquet", numbers(0, 2))
    source = place.source()
    assert source.schema.names == ["n"]
    assert rows_of(source, place.cuts(source), ["n"]) == [{"n": 0}, {"n": 1}]
    place.write("n=7/a.parquet", parquet(pa.table({"m": [1]})))
    source = place.source()
    assert source.schema.names == ["m", "n"]
    place.write("n=x/a.parquet", parquet(pa.table({"m": [1]})))
    planned = r"'n' is int64 in the files planned before and string in n=x/a\.parquet"
    with pytest.raises(UserError, match=planned):
        place.cuts(source)
    mixed = place.source()  # opened anew, both values are seen
    assert [row["n"] for row in rows_of(mixed, place.cuts(mixed), ["n"])] == ["7", "x"]
    place.write("b.parquet", parquet(pa.table({"m": [1]})))
    source = place.source()  # which has no such folder
    assert [row["n"] for row in rows_of(source, place.cuts(source), ["n"])] == [None, "7", "x"]


READ_ALL = """
import resource, sys
import pyarrow as pa
from ray import cloudpickle
from pipeline.sources import list_input, open_source
from pipeline.sources.units import Work
from pipeline.stages.blocks import unseal
from pipeline.stages.read import pack_work, read_units
from tests.pipeline.output.samples import unit

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

listing = list_input(sys.argv[1])
source = open_source(listing, unit_rows=100, keep_images=True)
(cut,) = source.cut(listing.files)
work = pa.table({"work": [pack_work(Work(unit(files=cut.files, stop=cut.stop)))]})
before = peak()
rows = sum(b.num_rows for s in read_units(work, source, ["image"], False, 32) for b in unseal(s))
read = peak() - before
rows += sum(table.num_rows for table in source.passthrough(cut))
print(rows, read, peak() - before)
"""
WIDE = 20_000_000
LITTLE = 350_000_000
"""Bytes; one image is held several times on its way, and all twelve once are 240 million."""


@pytest.mark.parametrize("dictionary", [False, True])  # the image written twelve times, or once
def test_a_row_group_of_large_images_is_read_in_little_memory(
    tmp_path: Path, dictionary: bool
) -> None:
    one = pa.array([{"bytes": bytes(WIDE), "path": "x.jpg"}], HF_IMAGE)
    table = pa.table({"image": pa.chunked_array([one] * 12)})
    pq.write_table(
        table,
        tmp_path / "a.parquet",
        compression="zstd",
        use_dictionary=dictionary,
        dictionary_pagesize_limit=2**30,
    )
    chunk = pq.read_metadata(tmp_path / "a.parquet").row_group(0).column(0)
    assert (chunk.total_uncompressed_size < 2 * WIDE) == dictionary
    command = [sys.executable, "-c", READ_ALL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, read, copied = map(int, done.stdout.split())
    assert rows == 24
    assert read < LITTLE
    assert copied < LITTLE


def test_ordinary_text_is_not_read_as_a_dictionary(tmp_path: Path) -> None:
    texts = [f"{n:0200}" for n in range(40_000)]  # beyond what a dictionary takes (1 MB)
    pq.write_table(pa.table({"x": texts}), tmp_path / "a.parquet", row_group_size=40_000)
    with open(tmp_path / "a.parquet", "rb") as file:
        meta = pq.read_metadata(file)
        assert meta.row_group(0).column(0).total_uncompressed_size > 5 * 2**20
        reading = parquet_batches.Reading.of(file, meta, 0, ["x"], 4096)
        assert reading.dictionaries == ()
        assert 64 <= reading.rows <= 256
        batches = [*reading.batches(file, meta, pq.read_schema(tmp_path / "a.parquet"))]
    assert pa.Table.from_batches(batches)["x"].to_pylist() == texts


@pytest.mark.parametrize("form", ["binary", "large_binary", "struct", "string", "category"])
def test_values_that_a_dictionary_holds_once_are_read_as_they_are(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_batches, "MOST_REPEATED", 100)
    monkeypatch.setattr(parquet_batches, "READ_ROWS", 4)
    monkeypatch.setattr(parquet_batches, "READ_BYTES", 100)
    bodies = [b"a" * 60, None, b"b" * 60, b"a" * 60, b"", b"c" * 20]
    columns = {
        "binary": pa.array(bodies, pa.binary()),
        "large_binary": pa.array(bodies, pa.large_binary()),
        "struct": pa.array([{"bytes": body, "path": "p"} for body in bodies], HF_IMAGE),
        "string": pa.array(
            [None if body is None else body.decode() for body in bodies], pa.string()
        ),
        "category": pa.array(
            [None if body is None else body.decode() for body in bodies]
        ).dictionary_encode(),
    }
    table = pa.table({"x": columns[form], "n": range(6)})
    place = Place(str(tmp_path))
    place.write("a.parquet", parquet(table))
    source = place.source(keep_images=True)
    cuts = place.cuts(source)
    assert passed_through(source, cuts).to_pylist() == table.to_pylist()
    assert passed_through(source, cuts).schema == table.schema
    assert rows_of(source, cuts, ["x"]) == table.select(["x"]).to_pylist()
    assert max(len(table) for table in source.passthrough(cuts[0])) <= 2


def refused(place: Place) -> str:
    with pytest.raises(UserError) as error:
        place.cuts(place.source())
    message = str(error.value)
    assert "\n" not in message
    return message


def test_files_that_cannot_be_used_are_refused_in_one_line(place: Place) -> None:
    place.write("a.parquet", b"PAR1\0but no more")
    assert refused(place) == (
        f"INPUT {place.uri}/a.parquet is not a readable parquet file; repair it or take it away"
    )
    place.write("a.parquet", numbers(0, 0))
    assert refused(place) == f"INPUT {place.uri}/a.parquet has no rows"
    place.write("a.parquet", numbers(0, 3))
    place.write("b.parquet", parquet(pa.table({"n": ["text"]})))
    assert refused(place) == (
        "column 'n' is int64 in a.parquet and string in b.parquet; run them apart"
    )
    place.write("b.parquet", numbers(0, 3)[:-40])
    assert "b.parquet is not a readable parquet file" in refused(place)


def test_a_file_that_breaks_after_planning_raises_when_it_is_read(place: Place) -> None:
    place.write("a.parquet", numbers(0, 30))
    source = place.source()
    cuts = place.cuts(source)
    place.write("a.parquet", b"PAR1 and nothing else, PAR1")
    with pytest.raises((OSError, pa.ArrowException)):
        rows_of(source, cuts, ["n"])


def test_wrong_columns_are_named_with_the_nearest() -> None:
    schema = pa.schema([("image", pa.binary()), ("count", pa.int64())])
    with pytest.raises(UserError, match=r"no column 'imgae'; did you mean 'image'\? its columns"):
        check_columns(schema, {"imgae": ColumnKind.IMAGE})
    with pytest.raises(UserError, match="column 'count' is int64; an image column is binary"):
        check_columns(schema, {"count": ColumnKind.IMAGE})
    check_columns(schema, {"count": ColumnKind.VALUE, "image": ColumnKind.IMAGE})
