from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest

from pipeline.contract.errors import UserError
from pipeline.contract.task import ColumnKind
from pipeline.images import ImageLimits, load_image
from pipeline.sources import FAULT, check_columns, list_input, open_source
from pipeline.sources.json_types import schema_of
from tests.pipeline.sample_images import encoded, plain
from tests.pipeline.sources.places import Place, passed_through, rows_of
from tests.stores import S3


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def numbers(start: int, stop: int) -> bytes:
    return lines(*({"n": n} for n in range(start, stop)))


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson.gz"])
def test_every_line_is_read_once_in_input_order(place: Place, suffix: str) -> None:
    pack = gzip.compress if suffix.endswith(".gz") else bytes
    place.write(f"a{suffix}", pack(numbers(0, 25)))
    place.write(f"b{suffix}", pack(b"\n \r\n" + numbers(25, 40).replace(b"\n", b"\r\n\n")))
    place.write(f"c{suffix}", pack(b"\xef\xbb\xbf" + numbers(40, 42).removesuffix(b"\n")))
    place.write(f"d{suffix}", pack(b"\n\n"))
    source = place.source()
    cuts = place.cuts(source)
    assert [(c.files[0][0], c.start, c.stop) for c in cuts] == [
        ("a", 0, 10),
        ("a", 10, 20),
        ("a", 20, 25),
        ("b", 0, 10),
        ("b", 10, 15),
        ("c", 0, 2),
    ]
    assert [row["n"] for row in rows_of(source, cuts, ["n"])] == [*range(42)]
    assert passed_through(source, cuts).to_pydict() == {"n": [*range(42)]}
    assert [row["n"] for row in rows_of(source, cuts[1:2], ["n"])] == [*range(10, 20)]
    assert all(bool(cut.offset) == (cut.start > 0 or cut.files[0][0] == "b") for cut in cuts) or (
        suffix.endswith(".gz") and not any(cut.offset for cut in cuts)
    )


def test_a_unit_is_read_from_its_own_bytes(s3: S3) -> None:
    place = Place(s3.url + "/in")
    place.write("a.jsonl", lines(*({"n": n, "text": "x" * 10_000} for n in range(1000))))
    source = place.source(unit_rows=100)
    last = place.cuts(source)[-1]
    assert last.offset > 8 * 2**20  # beyond what one request of the first unit gets
    place.write("a.jsonl", b"x" * last.offset + lines(*({"n": n} for n in range(900, 1000))))
    assert [row["n"] for row in rows_of(source, [last], ["n"])] == [*range(900, 1000)]


def test_columns_have_the_types_of_what_is_in_them(place: Place) -> None:
    place.write(
        "a.jsonl",
        lines(
            {"i": 1, "f": 1, "b": True, "s": "x", "l": [1], "o": {"a": 1}, "none": None, "e": {}},
            {"i": 2, "f": 2.5, "b": None, "l": [2.5, None], "o": {"b": ["y"]}, "le": []},
            {"i": 3, "f": 2**70, "late": 9, "o": None, "deep": {"x": [{"y": None}]}},
        ),
    )
    source = place.source()
    assert source.schema == source.passthrough_schema
    assert source.schema == pa.schema(
        {
            "i": pa.int64(),
            "f": pa.float64(),
            "b": pa.bool_(),
            "s": pa.string(),
            "l": pa.list_(pa.float64()),
            "o": pa.struct({"a": pa.int64(), "b": pa.list_(pa.string())}),
            "none": pa.string(),
            "le": pa.list_(pa.string()),
            "late": pa.int64(),
            "deep": pa.struct({"x": pa.list_(pa.struct({"y": pa.string()}))}),
        }
    )
    rows = passed_through(source, place.cuts(source)).to_pylist()
    assert rows[1]["o"] == {"a": None, "b": ["y"]}
    assert [row["f"] for row in rows] == [1.0, 2.5, 2.0**70]
    assert [row["l"] for row in rows] == [[1.0], [2.5, None], None]


def test_the_most_frequent_type_stands() -> None:
    rows = [{"x": "a"}, {"x": 1}, {"x": 2}, {"x": 2.5}, {"x": "b"}, {"x": 3}]
    assert schema_of(rows) == pa.schema({"x": pa.float64()})
    assert schema_of([{"x": [1, "a", "b"]}]) == pa.schema({"x": pa.list_(pa.string())})


BROKEN = {
    b"{": "it is not JSON",
    b'{"n": 1} {"n": 2}': "it is not JSON",
    b"[1]": "it is JSON, but not an object",
    b"7": "it is JSON, but not an object",
    b'{"s": "\xff\xfe"}': "it is not UTF-8",
    '{"n": 1}'.encode("utf-16"): "it is not UTF-8",
    b'{"n": "1"}': "'n' is text, not int64",
    b'{"n": 1.5}': "'n' is a number, not int64",
    b'{"n": true}': "'n' is a boolean, not int64",
    b'{"n": 9223372036854775808}': "'n' is a number, not int64",
    b'{"n": NaN}': "'n' is a number, not int64",
    b'{"s": 1}': "'s' is a number, not string",
    b'{"s": "\\ud800"}': "'s' has half of a character",
    b'{"l": "abc"}': "'l' is text, not list<",
    b'{"l": [1]}': "'l[]' is a number, not string",
    b'{"o": [["a", 1]]}': "'o' is an array, not struct<",
    b'{"o": {"a": {}}}': "'o.a' is an object, not bool",
    b'{"f": ' + b"9" * 400 + b"}": "'f' is a number, not double",
    b"[" * 100_000: "it is not JSON",
}


def test_a_line_that_does_not_fit_is_a_row_that_says_so(place: Place) -> None:
    good = {"n": 1, "s": "x", "l": ["y"], "o": {"a": True}, "f": 0.5}
    place.write("a.jsonl", lines(*[good] * 3))  # the columns come from here
    place.write("in.jsonl", b"\n".join(BROKEN) + b"\n" + lines(good))
    source = place.source(unit_rows=7)
    cuts = place.cuts(source)
    rows = rows_of(source, cuts, ["n"])
    assert len(rows) == 4 + len(BROKEN)
    for number, (row, text) in enumerate(zip(rows[3:-1], BROKEN.values(), strict=True), 1):
        assert row["n"] is None
        assert str(row[FAULT]).startswith(f"in.jsonl line {number}: {text}"), row
    for row in (*rows[:3], rows[-1]):
        assert (row["n"], row.get(FAULT)) == (1, None)
    passed = passed_through(source, cuts).to_pylist()
    assert passed == [good] * 3 + [dict.fromkeys(good)] * len(BROKEN) + [good]


def test_fields_beyond_the_columns_are_ignored_and_whole_floats_are_integers(place: Place) -> None:
    place.write("a.jsonl", lines({"n": 1, "o": {"a": 1}}))
    place.write("b.jsonl", lines({"n": 2.0, "new": [], "o": {"b": 1}}, {}))
    source = place.source()
    assert passed_through(source, place.cuts(source)).to_pylist() == [
        {"n": 1, "o": {"a": 1}},
        {"n": 2, "o": {"a": None}},
        {"n": None, "o": None},
    ]


def test_the_first_thousand_lines_decide_the_columns(place: Place) -> None:
    place.write("a.jsonl", b"broken\n" + numbers(0, 998) + lines({"m": 1}, {"late": 1}))
    assert place.source().schema.names == ["n", "m"]


def test_with_the_schema_recorded_no_file_is_opened(place: Place) -> None:
    place.write("a.jsonl.gz", b"not packed")
    schema = pa.schema({"n": pa.int64()})
    source = open_source(list_input(place.uri), unit_rows=2, keep_images=False, schema=schema)
    assert source.schema == schema


def test_paths_of_images_are_found_from_the_root(place: Place) -> None:
    place.write("a.jsonl", lines({"image": "p/x.png"}))
    place.write("p/x.png", encoded(plain((1, 2, 3)), "PNG"))
    source = place.source()
    check_columns(source.schema, {"image": ColumnKind.IMAGE})
    (row,) = rows_of(source, place.cuts(source), ["image"])
    image = load_image(row["image"], source.root, ImageLimits(10**6, 10**6))
    assert image.getpixel((0, 0)) == (1, 2, 3)


def test_files_that_cannot_be_used_are_refused_in_one_line(place: Place) -> None:
    def refused() -> str:
        with pytest.raises(UserError) as error:
            place.cuts(place.source())
        return str(error.value)

    place.write("a.jsonl", b"\n\n")
    assert refused() == f"INPUT {place.uri}/a.jsonl has no rows"
    place.write("a.jsonl", b"[]\n1\n")
    assert refused() == f"INPUT {place.uri}/a.jsonl has no JSON object in its first 1,000 lines"
    place.write("a.jsonl", b"{}\n")
    assert refused() == f"INPUT {place.uri}/a.jsonl has no fields in its first 1,000 lines"
    place.write("a.jsonl", b'{"a":' * 900 + b"1" + b"}" * 900)
    assert refused() == f"INPUT {place.uri}/a.jsonl has objects nested too deep to be columns"
    place.write("a.jsonl", numbers(0, 3))
    packed = gzip.compress(numbers(0, 30000))
    for broken in (b"not packed", packed[: len(packed) // 2], packed[:100] + b"?" * 300):
        place.write("b.jsonl.gz", broken)
        assert refused() == (
            f"INPUT {place.uri}/b.jsonl.gz is not a readable gzip file; repair it or take it away"
        )


def test_a_file_that_breaks_after_planning_raises_when_it_is_read(place: Place) -> None:
    packed = gzip.compress(numbers(0, 30000))
    place.write("a.jsonl.gz", packed)
    source = place.source(unit_rows=20000)
    cuts = place.cuts(source)
    place.write("a.jsonl.gz", packed[: len(packed) // 2])
    with pytest.raises(OSError, match="cut off or damaged"):
        rows_of(source, cuts, ["n"])
