"""Which column type a JSON schema gives, and an answer as a value of that type.

These parts of a schema get an Arrow type of their own: objects with named properties, arrays,
strings, numbers, booleans, enumerations, each of them or `null`, and references within the schema.
Any other part becomes a string column that holds its JSON, of a string the text alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from jobs.options.files import read_text
from pipeline import UserError
from pipeline.contract.errors import one_line

Schema = Mapping[str, Any]

SCALARS = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
}
JSON_TEXT = pa.string()
"""The type of any other part: a string that holds its JSON, of a string the text alone."""


def read_schema(value: str | Schema) -> dict[str, Any]:
    """Read a JSON schema from a mapping, from JSON text, or from a file.

    Raises:
        UserError: It cannot be read, or is not a JSON schema.
    """
    import jsonschema  # beside some packages (rfc3987-syntax) importing it takes seconds

    if isinstance(value, str):
        value = _read_json(value)
    if not isinstance(value, Mapping):
        raise UserError("json_schema: should be a JSON object, or a file that holds one")
    schema = dict(value)
    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.SchemaError as error:
        # What one of several schemas should be is said by the one that lists its values.
        fault = next((one for one in error.context or () if one.validator == "enum"), error)
        where = "/".join(str(part) for part in fault.absolute_path) or "the schema"
        raise UserError(f"json_schema: {where}: {fault.message}; correct it there") from None
    return schema


def _read_json(text: str) -> Any:
    """Parse JSON text that begins with `{`; any other text is the path of a file."""
    is_file = not text.lstrip().startswith("{")
    found = read_text("json_schema:", text) if is_file else text
    try:
        return json.loads(found)
    except ValueError as error:
        name = f"{text} " if is_file else ""
        raise UserError(f"json_schema: {name}cannot be read: it is not JSON ({error})") from None


def arrow_type(schema: Schema) -> pa.DataType:
    """The type of a column for answers that match the schema."""
    return _type(schema, schema, ())


def _type(schema: Any, root: Schema, seen: tuple[str, ...]) -> pa.DataType:
    """The type of one part; of the references `seen` so far, one that recurs has no Arrow type."""
    if not isinstance(schema, Mapping):
        return JSON_TEXT
    reference = schema.get("$ref")
    if isinstance(reference, str):
        found = _resolve(reference, root)
        return JSON_TEXT if reference in seen else _type(found, root, (*seen, reference))
    if "enum" in schema or "const" in schema:
        return _enumeration_type(schema.get("enum", [schema.get("const")]))
    for key in ("anyOf", "oneOf"):
        if key in schema:
            parts = [part for part in schema[key] if part != {"type": "null"}]
            return _type(parts[0], root, seen) if len(parts) == 1 else JSON_TEXT
    return _named_type(schema, root, seen)


def _named_type(schema: Schema, root: Schema, seen: tuple[str, ...]) -> pa.DataType:
    """The type of a part with the key `type`."""
    names = schema.get("type")
    names = [names] if isinstance(names, str) else [name for name in names or () if name != "null"]
    if len(names) != 1:
        return JSON_TEXT
    if names == ["array"] and "items" in schema:
        return pa.list_(_type(schema["items"], root, seen))
    if names == ["object"] and schema.get("properties"):
        properties = schema["properties"].items()
        return pa.struct([(name, _type(part, root, seen)) for name, part in properties])
    return SCALARS.get(names[0], JSON_TEXT)


def _resolve(reference: str, root: Schema) -> Any:
    """The part of the schema that a JSON pointer leads to; None where there is none."""
    found: Any = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        if name:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _enumeration_type(values: Sequence[object]) -> pa.DataType:
    values = [value for value in values if value is not None]
    for python_type, type_ in ((bool, pa.bool_()), (int, pa.int64()), (str, pa.string())):
        if values and all(type(value) is python_type for value in values):
            return type_
    return JSON_TEXT


def conform(value: Any, type_: pa.DataType) -> Any:
    """Turn a parsed answer into a value of the type; what has no type of its own becomes JSON.

    Raises:
        ValueError: It is of another kind, which an engine that keeps to the schema does not write,
            or does not fit, such as an integer of over 64 bits.
    """
    found = _converted(value, type_)
    try:
        pa.scalar(found, type_)
    except (TypeError, OverflowError, pa.ArrowException) as error:
        raise ValueError(f"{type_}: {one_line(error)}") from None
    return found


def _converted(value: Any, type_: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_struct(type_):
        if not isinstance(value, dict):
            raise ValueError(f"an object was asked for, not a {type(value).__name__}")
        return {field.name: _converted(value.get(field.name), field.type) for field in type_}
    if pa.types.is_list(type_):
        if not isinstance(value, list):
            raise ValueError(f"a list was asked for, not a {type(value).__name__}")
        return [_converted(item, type_.value_type) for item in value]
    if pa.types.is_string(type_) and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if pa.types.is_float64(type_) and type(value) is int:
        return _float(value)  # Arrow takes no integer that a float rounds
    return value


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(str(error)) from None
