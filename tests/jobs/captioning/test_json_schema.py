"""The column type that a JSON schema gives, and answers as values of that type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.captioning.json_schema import arrow_type, conform, read_schema
from pipeline import UserError

TEXT, WHOLE = pa.string(), pa.int64()
CAT = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
        }
    },
}


@pytest.mark.parametrize(
    ("schema", "type_"),
    [
        ({"type": "string"}, TEXT),
        ({"type": "integer"}, WHOLE),
        ({"type": "number"}, pa.float64()),
        ({"type": "boolean"}, pa.bool_()),
        ({"type": ["integer", "null"]}, WHOLE),
        ({"anyOf": [{"type": "null"}, CAT]}, pa.struct([("name", TEXT), ("age", WHOLE)])),
        ({"anyOf": [{"type": "string"}, CAT]}, TEXT),
        ({"enum": ["a", "b", None]}, TEXT),
        ({"enum": [1, 2]}, WHOLE),
        ({"enum": [1, "a"]}, TEXT),
        ({"const": True}, pa.bool_()),
        ({"type": "array", "items": CAT}, pa.list_(pa.struct([("name", TEXT), ("age", WHOLE)]))),
        ({"type": "array"}, TEXT),
        ({"type": "object"}, TEXT),
        ({"type": ["string", "integer"]}, TEXT),
        ({}, TEXT),
        (TREE, pa.struct([("name", TEXT), ("children", pa.list_(TEXT))])),
    ],
)
def test_the_type_of_a_column(schema: dict[str, Any], type_: pa.DataType) -> None:
    assert arrow_type(schema) == type_


def test_values_fit_their_type() -> None:
    value = {"name": "a", "children": [{"name": "b", "children": []}]}
    type_ = arrow_type(TREE)
    found = conform(value, type_)
    assert found == {"name": "a", "children": ['{"name": "b", "children": []}']}
    assert pa.array([found, None], type_).to_pylist() == [found, None]
    assert conform({"name": "x"}, arrow_type(CAT)) == {"name": "x", "age": None}
    assert conform([1, "é"], pa.string()) == '[1, "é"]'


def test_whole_numbers_of_any_size_are_numbers() -> None:
    number = pa.float64()
    for value in (5, 12345678901234567890, -(2**53) - 1):
        assert pa.array([conform(value, number)], number).to_pylist() == [float(value)]


@pytest.mark.parametrize(
    ("value", "schema", "fault"),
    [
        ([1, 2], CAT, "an object was asked for, not a list"),
        ("cat", CAT, "an object was asked for, not a str"),
        ("cat", {"type": "array", "items": {"type": "string"}}, "a list was asked for, not a str"),
        (CAT, {"type": "array", "items": {"type": "string"}}, "a list was asked for, not a dict"),
        ({"age": 10**20}, CAT, "int"),
        ({"age": "5"}, CAT, "'5'"),
        pytest.param(10**400, {"type": "number"}, "too large", id="too large"),
        ("\ud83d", {"type": "string"}, "surrogates not allowed"),
    ],
)
def test_a_value_of_another_kind_is_refused(
    value: object, schema: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        conform(value, arrow_type(schema))


def test_a_schema_is_read_from_json_and_from_files(tmp_path: Path) -> None:
    file = tmp_path / "cat.json"
    file.write_text(json.dumps(CAT))
    assert read_schema(str(file)) == read_schema(json.dumps(CAT)) == read_schema(CAT) == CAT


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("no/such.json", "no/such.json: cannot be read"),
        ("{oh", "cannot be read"),
        ('{"type": "strnig"}', "type: 'strnig' is not one of"),
        ('{"properties": {"a": {"type": 3}}}', "properties/a/type: 3 is not one of"),
    ],
)
def test_what_is_no_schema_is_told(value: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault) as told:
        read_schema(value)
    assert str(told.value).startswith("json_schema: ")
    assert "\n" not in str(told.value)
