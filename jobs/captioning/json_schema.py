"""From a JSON schema to the type of a column, and from an answer to its value.

Decides what of a schema has an Arrow type: objects with named properties, arrays, strings, numbers,
booleans, enumerations, `null` beside one of them, and references within the schema. Any other part
comes as text that holds its JSON. An answer is parsed once, here, and never again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa

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
"""What has no type of its own."""


def read_schema(value: str | Schema) -> dict[str, Any]:
    """A JSON schema from a mapping, from JSON, or from a file that holds JSON.

    Raises:
        UserError: It is none, or cannot be read.
    """
    if isinstance(value, str):
        value = _parsed(value)
    if not isinstance(value, Mapping):
        raise UserError("json_schema: should be a JSON object, or a file that holds one")
    schema = dict(value)
    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.SchemaError as error:
        where = "/".join(str(part) for part in error.absolute_path) or "the schema"
        raise UserError(f"json_schema: {where}: {error.message}") from None
    return schema


def _parsed(text: str) -> Any:
    is_file = not text.lstrip().startswith("{")
    try:
        return json.loads(Path(text).expanduser().read_text("utf-8") if is_file else text)
    except (OSError, ValueError) as error:
        name = f"{text} " if is_file else ""
        raise UserError(f"json_schema: {name}cannot be read ({one_line(error)})") from None


def arrow_type(schema: Schema) -> pa.DataType:
    """The type of a column whose answers keep to the schema."""
    return _type(schema, schema, ())


def _type(schema: Any, root: Schema, seen: tuple[str, ...]) -> pa.DataType:
    """The type of one part; `seen` are the references on the way to it, which may not recur."""
    if not isinstance(schema, Mapping):
        return JSON_TEXT
    reference = schema.get("$ref")
    if isinstance(reference, str):
        found = _referred(reference, root)
        return JSON_TEXT if reference in seen else _type(found, root, (*seen, reference))
    if "enum" in schema or "const" in schema:
        return _type_of_values(schema.get("enum", [schema.get("const")]))
    for word in ("anyOf", "oneOf"):
        if word in schema:
            parts = [part for part in schema[word] if part != {"type": "null"}]
            return _type(parts[0], root, seen) if len(parts) == 1 else JSON_TEXT
    return _type_of_kind(schema, root, seen)


def _type_of_kind(schema: Schema, root: Schema, seen: tuple[str, ...]) -> pa.DataType:
    kinds = schema.get("type")
    named = [kinds] if isinstance(kinds, str) else [kind for kind in kinds or () if kind != "null"]
    if len(named) != 1:
        return JSON_TEXT
    (kind,) = named
    if kind == "array" and "items" in schema:
        return pa.list_(_type(schema["items"], root, seen))
    if kind == "object" and schema.get("properties"):
        properties = schema["properties"].items()
        return pa.struct([(name, _type(part, root, seen)) for name, part in properties])
    return SCALARS.get(kind, JSON_TEXT)


def _referred(reference: str, root: Schema) -> Any:
    found: Any = root
    for name in reference.removeprefix("#").strip("/").split("/"):
        if name:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _type_of_values(values: Sequence[object]) -> pa.DataType:
    known = [value for value in values if value is not None]
    for kind, type_ in ((bool, pa.bool_()), (int, pa.int64()), (str, pa.string())):
        if known and all(type(value) is kind for value in known):
            return type_
    return JSON_TEXT


def fitted(value: Any, type_: pa.DataType) -> Any:
    """A parsed answer as a value of the type; what has no type of its own becomes JSON."""
    if value is None:
        return None
    if pa.types.is_struct(type_):
        fields = [type_.field(index) for index in range(type_.num_fields)]
        return {field.name: fitted(value.get(field.name), field.type) for field in fields}
    if pa.types.is_list(type_):
        return [fitted(item, type_.value_type) for item in value]
    if pa.types.is_string(type_) and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return value
