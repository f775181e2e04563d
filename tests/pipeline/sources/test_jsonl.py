from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.contract.errors import UserError
from pipeline.contract.task import ColumnKind
from pipeline.images import ImageLimits, load_image
from pipeline.sources import FAULT, check_columns, list_input, open_source
from pipeline.sources.json_types import JSON, columns_of, types_of
from pipeline.sources.unified import unified
from tests.pipeline.sample_images import encoded, plain
from tests.pipeline.sources.places import Place, passed_through, rows_of
from tests.stores import S3


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def numbers(start: int, stop: int) -> bytes:
    return lines(*({"n": n} for n in range(start, stop)))


def schema_of(rows: list[dict[str, object]]) -> pa.Schema | None:
    """The columns of a file with these objects."""
    return unified([("a.jsonl", columns_of(types_of(rows)))], rules=JSON)


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


def test_scalars_of_different_kinds_are_text_as_json_writes_them(place: Place) -> None:
    rows = [{"id": 1, "t": "a"}, {"id": "x7", "t": "b"}, {"id": 1.5, "t": ["c"]}, {"id": True}]
    place.write("a.jsonl", lines(*rows))
    place.write("b.jsonl", lines({"id": -(2**70)}, {"id": 1e300}, {"id": [1]}, {"t": 7}))
    source = place.source()
    cuts = place.cuts(source)
    assert source.schema == pa.schema({"id": pa.string(), "t": pa.string()})
    assert passed_through(source, cuts).to_pydict() == {
        "id": ["1", "x7", "1.5", "true", str(-(2**70)), "1e+300", None, None],
        "t": ["a", "b", None, None, None, None, None, "7"],
    }
    faults = [row.get(FAULT) for row in rows_of(source, cuts, ["t"])]
    assert faults == [None, None, "a.jsonl line 3: 't' is an array, not string", *[None] * 5]


def test_of_types_that_have_none_in_common_the_most_frequent_stands() -> None:
    text, number = pa.string(), pa.int64()
    assert schema_of([{"x": "a"}, {"x": [1]}, {"x": [2]}]) == pa.schema({"x": pa.list_(number)})
    assert schema_of([{"x": [1]}, {"x": "a"}, {"x": 1}, {"x": "b"}]) == pa.schema({"x": text})
    assert schema_of([{"x": [1, "a", True]}]) == pa.schema({"x": pa.list_(text)})
    fields = [{"o": {"a": 1, "b": 1}}, {"o": {"a": [1], "c": "x"}}, {"o": {"a": 1, "b": 1}}]
    expected = pa.struct({"a": number, "b": number, "c": text})
    assert schema_of(fields) == pa.schema({"o": expected})


def test_no_whole_number_is_rounded(place: Place) -> None:
    long = 2**53 + 1
    rows = [{"a": 1, "b": long, "c": 2**64 - 1}, {"a": float("nan"), "b": 2.5, "c": 1}]
    place.write("a.jsonl", lines(*rows, {"a": long, "b": 3, "c": None}))
    place.write("b.jsonl", lines({"a": 1, "b": long}))
    source = place.source()
    assert passed_through(source, place.cuts(source)).to_pydict() == {
        "a": ["1", "NaN", str(long), "1"],
        "b": [str(long), "2.5", "3", str(long)],
        "c": [str(2**64 - 1), "1", None, None],
    }
    assert schema_of([{"a": long}, {"a": 1}]) == pa.schema({"a": pa.int64()})


def test_no_whole_number_beyond_the_first_lines_is_rounded(tmp_path: Path) -> None:
    long = 2**53 + 1
    (tmp_path / "a.jsonl").write_bytes(lines({"n": 0.5}, *({"n": n} for n in range(999))))
    (tmp_path / "b.jsonl").write_bytes(lines(*({"n": 0.5} for _ in range(1000)), {"n": long}))
    place = Place(str(tmp_path))
    source = place.source(unit_rows=2000)
    *rows, last = rows_of(source, place.cuts(source), ["n"])
    assert rows[-1] == {"n": 0.5, FAULT: None}
    fault = "b.jsonl line 1001: 'n' is a whole number that a double does not hold"
    assert last == {"n": None, FAULT: fault}


BROKEN = {
    b"{": "it is not JSON",
    b'{"n": 1} {"n": 2}': "it is not JSON",
    b"[1]": "it is JSON, but not an object",
    b"7": "it is JSON, but not an object",
    b'{"s": "\xff\xfe"}': "it is not UTF-8",
    '{"n": 1}'.encode("utf-16"): "it is not UTF-8",
    b"[" * 100_000: "it is not JSON",
}
GOOD = {"n": 1, "s": "x", "l": ["y"], "o": {"a": True, "b": 2}, "f": 0.5}


def test_a_line_that_is_no_object_is_a_row_that_says_so(place: Place) -> None:
    place.write("a.jsonl", lines(*[GOOD] * 3))  # the columns come from here
    place.write("in.jsonl", b"\n".join(BROKEN) + b"\n" + lines(GOOD))
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
    assert passed == [GOOD] * 3 + [dict.fromkeys(GOOD)] * len(BROKEN) + [GOOD]


MISFITS: list[tuple[dict[str, object], dict[str, object], str]] = [
    ({"n": "1"}, {"n": None}, "'n' is text, not int64"),
    ({"n": 1.5}, {"n": None}, "'n' is a number, not int64"),
    ({"n": True}, {"n": None}, "'n' is a boolean, not int64"),
    ({"n": 2**63}, {"n": None}, "'n' is a number, not int64"),
    ({"n": float("nan")}, {"n": None}, "'n' is a number, not int64"),
    ({"s": {"a": 1}}, {"s": None}, "'s' is an object, not string"),
    ({"s": "\ud800"}, {"s": None}, "'s' has half of a character"),
    ({"l": "abc"}, {"l": None}, "'l' is text, not list<"),
    ({"l": ["a", [1], "b"]}, {"l": ["a", None, "b"]}, "'l[]' is an array, not string"),
    ({"o": [["a", 1]]}, {"o": None}, "'o' is an array, not struct<"),
    ({"o": {"a": {}, "b": 3}}, {"o": {"a": None, "b": 3}}, "'o.a' is an object, not bool"),
    ({"f": 10**400}, {"f": None}, "'f' is a whole number that a double does not hold"),
]


@pytest.mark.parametrize(("given", "kept", "fault"), MISFITS)
def test_a_value_that_does_not_fit_costs_nothing_else(
    tmp_path: Path, given: dict[str, object], kept: dict[str, object], fault: str
) -> None:
    place = Place(str(tmp_path))
    place.write("a.jsonl", lines(*[GOOD] * 3))  # the columns come from here
    source = place.source()
    place.write("b.jsonl", lines(GOOD | given, GOOD))
    cuts = place.cuts(source)[1:]
    assert passed_through(source, cuts).to_pylist() == [GOOD | kept, GOOD]
    for name, value in GOOD.items():
        first, second = rows_of(source, cuts, [name])
        assert first[name] == (GOOD | kept)[name]
        said = str(first.get(FAULT, ""))
        assert said.startswith(f"b.jsonl line 1: {fault}") if name in given else not said
        assert (second[name], second.get(FAULT)) == (value, None)


def test_files_whose_fields_differ_are_one_table(place: Place) -> None:
    place.write("a.jsonl", lines({"n": 1, "o": {"a": 1}, "id": 7, "x": None}))
    later = {"n": 2.5, "new": [], "o": {"b": [{"c": 1}]}, "id": "x7", "x": 1}
    place.write("b.jsonl", lines(later, {}))
    place.write("c.jsonl", b"[1]\nno JSON\n")
    source = place.source()
    nothing = dict.fromkeys(["n", "o", "id", "x", "new"])
    assert passed_through(source, place.cuts(source)).to_pylist() == [
        {"n": 1.0, "o": {"a": 1, "b": None}, "id": "7", "x": None, "new": None},
        {"n": 2.5, "o": {"a": None, "b": [{"c": 1}]}, "id": "x7", "x": 1, "new": []},
        *[nothing] * 3,
    ]
    place.write("d.jsonl", lines({"o": {"b": "text"}}))
    with pytest.raises(UserError) as error:
        place.source()
    assert str(error.value) == (
        "column 'o.b' is list<item: struct<c: int64>> in b.jsonl and string in d.jsonl; run them "
        "apart"
    )


def test_a_later_file_adds_fields_and_few_misfits_of_it_are_null(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    place.write("a.jsonl", lines({"n": 1, "o": {"a": 1}}))
    source = place.source()
    rows = [{"n": 2, "o": {"a": 2, "b": "x"}}, {"n": 3.0, "new": 1}, {"n": "four"}, {"n": 5}]
    place.write("b.jsonl", lines(*rows))
    later = source.with_columns_of(place.files()[1:])
    assert later.schema.field("n").type == pa.int64()
    assert passed_through(later, place.cuts(later)).to_pylist() == [
        {"n": 1, "o": {"a": 1, "b": None}, "new": None},
        {"n": 2, "o": {"a": 2, "b": "x"}, "new": None},
        {"n": 3, "o": None, "new": 1},
        {"n": None, "o": None, "new": None},
        {"n": 5, "o": None, "new": None},
    ]
    place.write("b.jsonl", lines({"n": "one"}, {"n": "two"}, {"n": 3}))
    fault = r"^column 'n' is int64 in the files planned before and string in b\.jsonl; not all"
    with pytest.raises(UserError, match=fault):
        source.with_columns_of(place.files()[1:])


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
    place.write("a.jsonl", b"7\n[1]\n")
    assert refused().startswith(
        f"INPUT {place.uri}/a.jsonl has no JSON object in its first 1,000 lines"
    )
    place.write("a.jsonl", b"{}\n")
    assert refused() == f"INPUT {place.uri}/a.jsonl has no fields in its first 1,000 lines"
    place.write("a.jsonl", b'{"a":' * 900 + b"1" + b"}" * 900)
    assert refused() == f"INPUT {place.uri}/a.jsonl has objects nested too deep to be columns"
    place.write("a.jsonl", numbers(0, 3))
    packed = gzip.compress(numbers(0, 30000))
    for broken in (packed[: len(packed) // 2], packed[:100] + b"?" * 300):
        place.write("b.jsonl.gz", broken)
        assert refused() == (
            f"INPUT {place.uri}/b.jsonl.gz is not a readable gzip file; repair it or take it away"
        )
    place.write("b.jsonl.gz", numbers(0, 3))
    assert refused() == (
        f"INPUT {place.uri}/b.jsonl.gz is JSON lines, not gzip; give it a name that ends in "
        ".jsonl, or take it away"
    )


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("name", ["a", "b"])  # the first file, and another one
def test_a_json_array_of_many_lines_is_refused(tmp_path: Path, suffix: str, name: str) -> None:
    pack = gzip.compress if suffix.endswith(".gz") else bytes
    place = Place(str(tmp_path))
    place.write(f"aa{suffix}", pack(numbers(0, 3)))
    place.write(f"{name}{suffix}", pack(json.dumps([GOOD, GOOD], indent=1).encode()))
    with pytest.raises(UserError, match="is a JSON array, not JSON lines; write its elements"):
        place.cuts(place.source())
    place.write(f"{name}{suffix}", pack(json.dumps(GOOD, indent=1).encode()))
    with pytest.raises(UserError, match="is a JSON document, not JSON lines; write one object"):
        place.cuts(place.source())


def test_a_file_that_breaks_after_planning_raises_when_it_is_read(place: Place) -> None:
    packed = gzip.compress(numbers(0, 30000))
    place.write("a.jsonl.gz", packed)
    source = place.source(unit_rows=20000)
    cuts = place.cuts(source)
    place.write("a.jsonl.gz", packed[: len(packed) // 2])
    with pytest.raises(OSError, match="cut off or damaged"):
        rows_of(source, cuts, ["n"])


def test_half_a_character_in_a_column_s_name_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "bad\\ud800": 1}\n')
    with pytest.raises(UserError, match=r"INPUT a\.jsonl: the column 'bad\\ud800' has half of a"):
        open_source(list_input(str(tmp_path)), unit_rows=10, keep_images=False)
