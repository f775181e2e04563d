"""Files whose columns differ are read with one schema; what cannot be is refused in one line."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.contract.errors import UserError
from pipeline.sources.common_type import NoCommonTypeError, common_type, reads_as
from pipeline.sources.fit import fit
from pipeline.sources.unified import unified
from tests.pipeline.sources.places import Place, passed_through, rows_of
from tests.pipeline.sources.test_parquet import HF_IMAGE, parquet

TEXT, NUMBER = pa.string(), pa.int64()
POINT = pa.struct([("x", pa.int32()), ("y", NUMBER)])
SAME = [
    (pa.null(), pa.list_(TEXT), pa.list_(TEXT)),
    (pa.int32(), NUMBER, NUMBER),
    (pa.int64(), pa.float64(), pa.float64()),
    (pa.float32(), pa.float64(), pa.float64()),
    (TEXT, pa.large_string(), pa.large_string()),
    (TEXT, pa.string_view(), TEXT),
    (TEXT, pa.dictionary(pa.int8(), TEXT), TEXT),
    (pa.dictionary(pa.int8(), TEXT), pa.dictionary(pa.int32(), TEXT), TEXT),
    (pa.dictionary(pa.int8(), TEXT), pa.large_string(), pa.large_string()),
    (pa.binary(), pa.large_binary(), pa.large_binary()),
    (pa.binary(4), pa.binary(), pa.binary()),
    (pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ns")),
    (pa.timestamp("ms", "UTC"), pa.timestamp("us", "UTC"), pa.timestamp("us", "UTC")),
    (pa.list_(pa.int32()), pa.large_list(NUMBER), pa.large_list(NUMBER)),
    (pa.list_(pa.null()), pa.list_(TEXT), pa.list_(TEXT)),
    (pa.list_(NUMBER, 3), pa.list_(NUMBER), pa.list_(NUMBER)),
    (
        POINT,
        pa.struct([("y", pa.int16()), ("z", TEXT), ("x", NUMBER)]),
        pa.struct([("x", NUMBER), ("y", NUMBER), ("z", TEXT)]),
    ),
    (
        pa.list_(pa.struct([("a", pa.null())])),
        pa.list_(pa.struct([("b", TEXT), ("a", TEXT)])),
        pa.list_(pa.struct([("a", TEXT), ("b", TEXT)])),
    ),
]


@pytest.mark.parametrize(("one", "other", "both"), SAME, ids=str)
def test_types_with_one_in_common(one: pa.DataType, other: pa.DataType, both: pa.DataType) -> None:
    assert common_type(one, other) == both
    assert sorted(str(common_type(other, one))) == sorted(str(both))  # in another order of fields


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TEXT, NUMBER),
        (TEXT, pa.binary()),  # Arrow would make bytes of both
        (pa.bool_(), NUMBER),
        (TEXT, pa.list_(TEXT)),
        (TEXT, pa.timestamp("us")),
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        (POINT, NUMBER),
        (POINT, pa.struct([("x", TEXT)])),
        (pa.list_(NUMBER), pa.list_(TEXT)),
    ],
    ids=str,
)
def test_types_with_none_in_common(one: pa.DataType, other: pa.DataType) -> None:
    with pytest.raises(NoCommonTypeError):
        common_type(one, other)


def test_files_that_drift_are_one_table(place: Place) -> None:
    first = {
        "id": pa.array([0, 1], pa.int32()),
        "image": pa.array([b"0", b"1"], pa.binary()),
        "label": pa.nulls(2),
        "kind": pa.array(["a", None]).dictionary_encode(),
        "at": pa.array([1, None], pa.timestamp("us")),
        "meta": pa.array([{"x": 1, "y": 2}, None], POINT),
        "tags": pa.array([[], None], pa.list_(pa.null())),
        "boxes": pa.array([[{"x": 1, "y": 2}], None], pa.list_(POINT)),
    }
    wide = pa.struct([("z", TEXT), ("y", NUMBER), ("x", NUMBER)])
    second = {
        "source": ["new", "new"],
        "boxes": pa.array([[], [{"z": "z"}, None]], pa.large_list(wide)),
        "image": pa.array([b"2", b"3"], pa.large_binary()),
        "id": pa.array([2**40, 3], pa.int64()),
        "tags": pa.array([["t", None], []], pa.list_(pa.large_string())),
        "meta": pa.array([{"z": "z", "x": 2**40}, {"y": 7}], wide),
        "at": pa.array([2001, 3], pa.timestamp("ns")),
        "label": ["cat", "dog"],
        "kind": pa.array(["b", "c"], pa.large_string()),
    }
    place.write("a.parquet", parquet(pa.table(first)))
    place.write("b.parquet", parquet(pa.table(second)))
    place.write("c.parquet", parquet(pa.table({"other": pa.array([], TEXT)})))  # no rows
    source = place.source(keep_images=True)
    cuts = place.cuts(source)
    assert source.schema.names == [*first, "source"]
    tables = [table for cut in cuts for table in source.passthrough(cut)]
    assert {table.schema.to_string() for table in tables} == {source.schema.to_string()}
    found = pa.concat_tables(tables).to_pydict()
    assert found["id"] == [0, 1, 2**40, 3]
    assert found["image"] == [b"0", b"1", b"2", b"3"]
    assert found["label"] == [None, None, "cat", "dog"]
    assert found["source"] == [None, None, "new", "new"]
    assert found["kind"] == ["a", None, "b", "c"]
    assert pa.concat_tables(tables)["at"].cast(NUMBER).to_pylist() == [1000, None, 2001, 3]
    assert found["meta"] == [
        {"x": 1, "y": 2, "z": None},
        None,
        {"x": 2**40, "y": None, "z": "z"},
        {"x": None, "y": 7, "z": None},
    ]
    assert found["tags"] == [[], None, ["t", None], []]
    assert found["boxes"] == [
        [{"x": 1, "y": 2, "z": None}],
        None,
        [],
        [{"x": None, "y": None, "z": "z"}, None],
    ]
    rows = rows_of(source, cuts, ["source", "id"])
    assert [row["source"] for row in rows] == [None, None, "new", "new"]
    pq.write_table(pa.concat_tables(tables), pa.BufferOutputStream())


def test_slices_of_lists_and_structs_are_fitted() -> None:
    values = [[n] * (n % 3) if n % 4 else None for n in range(25)]
    pairs = [{"a": n} if n % 4 else None for n in range(25)]
    table = pa.table({"v": pa.array(values, pa.list_(pa.int32())), "p": pa.array(pairs)})
    wider = pa.schema(
        [("p", pa.struct([("b", TEXT), ("a", pa.float64())])), ("v", pa.large_list(NUMBER))]
    )
    for start, length in ((0, 25), (3, 9), (24, 1), (5, 0)):
        found = fit(table.slice(start, length), wider)
        assert found["v"].to_pylist() == values[start : start + length]
        due = [pair and {"b": None, "a": float(pair["a"])} for pair in pairs]
        assert found["p"].to_pylist() == due[start : start + length]
        found.validate(full=True)


def test_an_image_struct_without_a_path_or_rows_without_images_go_together(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    bare = pa.array([{"bytes": b"1"}, None], pa.struct([("bytes", pa.binary())]))
    place.write("a.parquet", parquet(pa.table({"image": bare})))
    place.write("b.parquet", parquet(pa.table({"image": pa.nulls(1), "n": [1]})))
    named = pa.array([{"bytes": b"2", "path": "p.jpg"}], HF_IMAGE)
    place.write("c.parquet", parquet(pa.table({"image": named, "n": [2]})))
    source = place.source()
    cuts = place.cuts(source)
    assert [row["image"] for row in rows_of(source, cuts, ["image"])] == [
        {"bytes": b"1", "path": None},
        None,
        None,
        {"bytes": b"2", "path": "p.jpg"},
    ]
    found = passed_through(source, cuts)
    assert found["n"].to_pylist() == [None, None, 1, 2]
    assert found["image"].to_pylist()[3] == {"bytes": None, "path": "p.jpg"}


def test_a_value_that_the_wider_type_cannot_hold_is_an_error_and_not_another_value() -> None:
    late = pa.table({"at": pa.array([datetime.datetime(9999, 12, 31)], pa.timestamp("us"))})
    with pytest.raises(pa.ArrowInvalid, match=r"column 'at' has a value that does not fit timest"):
        fit(late, pa.schema([("at", pa.timestamp("ns"))]))
    exact = pa.table({"n": pa.array([2**53 + 1], NUMBER)})
    with pytest.raises(pa.ArrowInvalid, match="column 'n' has a value that does not fit double"):
        fit(exact, pa.schema([("n", pa.float64())]))


def refused(place: Place) -> str:
    with pytest.raises(UserError) as error:
        place.source()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_integers_fit_into_decimals_by_their_values() -> None:
    """Arrow would want room for the longest integer there is."""
    type_ = pa.decimal128(20, 2)
    found = fit(pa.table({"n": [2**59, None]}), pa.schema({"n": type_}))
    assert found["n"].to_pylist() == [Decimal(2**59), None]
    with pytest.raises(pa.ArrowInvalid, match="column 'n' has a value that does not fit"):
        fit(pa.table({"n": [2**62]}), pa.schema({"n": type_}))


def test_a_decimal_id_beside_doubles_is_not_rounded() -> None:
    """Arrow checks this for integers only."""
    for type_, text in ((pa.float64(), "1234567890123456789"), (pa.float32(), "16777217")):
        ids = pa.table({"n": pa.array([Decimal("1.1"), Decimal(text), None], pa.decimal128(38, 2))})
        with pytest.raises(pa.ArrowInvalid, match=f"column 'n' .*{text}.00 would be rounded"):
            fit(ids, pa.schema({"n": type_}))
    exact = pa.table({"n": pa.array([Decimal("1.1"), Decimal(2**60), None], pa.decimal128(38, 2))})
    assert fit(exact, pa.schema({"n": pa.float64()}))["n"].to_pylist() == [1.1, 2.0**60, None]


def test_a_refusal_names_the_two_files_the_column_and_both_types(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    place.write("a.parquet", parquet(pa.table({"n": pa.array([1], pa.int32()), "x": ["x"]})))
    place.write("b.parquet", parquet(pa.table({"n": [1], "x": ["y"]})))
    place.write("c.parquet", parquet(pa.table({"n": ["one"]})))
    assert refused(place) == (
        "column 'n' is int32 in a.parquet and string in c.parquet; run them apart"
    )
    place.write("c.parquet", parquet(pa.table({"m": [{"deep": [{"size": 1}]}]})))
    place.write("d.parquet", parquet(pa.table({"m": [{"deep": [{"size": "big"}]}]})))
    assert refused(place) == (
        "column 'm.deep[].size' is int64 in c.parquet and string in d.parquet; run them apart"
    )


def planned(**types: pa.DataType) -> pa.Schema:
    return pa.schema([*types.items()])


def late(planned_: pa.Schema, **types: pa.DataType) -> pa.Schema | None:
    return unified([("late.parquet", pa.schema([*types.items()]))], planned=planned_)


def test_a_later_file_may_add_columns_and_have_narrower_ones() -> None:
    kind = pa.dictionary(pa.int32(), TEXT)
    before = planned(n=NUMBER, x=TEXT, kind=kind)
    assert late(before, n=NUMBER) == before
    narrower = {"n": pa.int8(), "x": pa.null(), "kind": pa.dictionary(pa.int16(), TEXT)}
    assert late(before, **narrower) == before
    assert late(before, x=pa.large_string(), kind=TEXT) == before
    values = [str(n) for n in range(300)]
    found = fit(pa.table({"kind": values}), planned(kind=kind))
    assert (found.schema.field("kind").type, found["kind"].to_pylist()) == (kind, values)
    of_pandas = pa.schema([("kind", pa.dictionary(pa.int8(), TEXT))])
    assert unified([("a.parquet", of_pandas)]) == planned(kind=kind)
    assert late(before, new=pa.list_(TEXT), void=pa.null()) == pa.schema(
        [*before, ("new", pa.list_(TEXT)), ("void", TEXT)]
    )


def test_a_later_file_that_readers_could_not_open_beside_the_others_is_refused() -> None:
    before = planned(n=pa.int32(), x=TEXT)
    for fault, type_ in (
        ("'n' is int32 in the files planned before and int64 in late.parquet; not", NUMBER),
        ("'n' is int32 in the files planned before and string in late.parquet; run them", TEXT),
    ):
        with pytest.raises(UserError, match=fault):
            late(before, n=type_)


SIDE_BY_SIDE = [
    (TEXT, ["a"], pa.large_string(), ["b"]),
    (pa.dictionary(pa.int32(), TEXT), ["a"], TEXT, [str(n) for n in range(300)]),
    (pa.dictionary(pa.int8(), TEXT), ["a"], TEXT, [str(n) for n in range(300)]),
    (pa.float32(), [1.0], pa.float64(), [1e-300]),
    (POINT, [{"x": 1, "y": 1}], pa.struct([*POINT, ("z", TEXT)]), [{"x": 2, "y": 3, "z": "z"}]),
    (pa.int32(), [1], NUMBER, [2**40]),
    (pa.timestamp("us"), [1], pa.timestamp("ns"), [1]),
    (pa.null(), [None], TEXT, ["a"]),
    (NUMBER, [1], pa.float64(), [1.5]),
    (pa.list_(pa.int32()), [[1]], pa.list_(NUMBER), [[2**40]]),
]


@pytest.mark.parametrize(("before", "old", "after", "new"), SIDE_BY_SIDE)
def test_what_may_lie_side_by_side_is_what_pyarrow_reads(
    tmp_path: Path, before: pa.DataType, old: list[object], after: pa.DataType, new: list[object]
) -> None:
    """As a reader does that knows nothing: it takes the first file's types."""
    for name, type_, values in (("0", before, old), ("1", after, new)):
        pq.write_table(pa.table({"c": pa.array(values, type_)}), tmp_path / f"{name}.parquet")
    try:
        rows = ds.dataset(tmp_path).to_table().num_rows
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        rows = 0
    assert reads_as(before, after) == (rows == len(old) + len(new))


def test_two_columns_of_one_name_are_refused() -> None:
    twice = pa.schema([("text", TEXT), ("n", NUMBER), ("text", TEXT)])
    fault = r"INPUT b\.parquet has two columns 'text'; rename one of them"
    with pytest.raises(UserError, match=fault):
        unified([("a.parquet", pa.schema([("text", TEXT)])), ("b.parquet", twice)])
