"""Decides how a row's values are written as JSON, and read back with their types.

    Arrow                                        JSON
    bool, numbers, text                          as they are; NaN and infinities are null
    date, time, timestamp, decimal               text, as Arrow writes it
    duration                                     a whole number, in the column's unit
    binary                                       base64
    list                                         array
    struct                                       object
    map                                          array of [key, value]
    dictionary                                   its values

Arrow itself casts to types that JSON has and back, so a row that is read is the one that was
written. Text that is not UTF-8, which passes through a run, has U+FFFD in the place of its wrong
bytes.
"""

from __future__ import annotations

import base64
import json
import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.sources.columns import is_binary, is_string

if TYPE_CHECKING:
    from collections.abc import Iterable

Values = dict[str, Any]
"""A row as JSON values, by column."""


def plain_type(type_: pa.DataType) -> pa.DataType | None:
    """The Arrow type that a column is cast to before it is written; None if there is none."""
    types = pa.types
    if types.is_dictionary(type_):
        return plain_type(type_.value_type)
    if isinstance(type_, pa.BaseExtensionType):
        return plain_type(type_.storage_type)
    if types.is_map(type_):
        return _combined([type_.key_type, type_.item_type], lambda kinds: pa.map_(*kinds))
    if _is_list(type_):
        return _combined([type_.value_type], lambda kinds: pa.list_(*kinds))
    if types.is_struct(type_):
        fields = [*type_]
        return _combined(
            [field.type for field in fields],
            lambda kinds: pa.struct(
                [field.with_type(kind) for field, kind in zip(fields, kinds, strict=True)]
            ),
        )
    return _plain_scalar(type_)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The columns with their plain types, all of which there are (`plain_type`)."""
    return pa.schema([field.with_type(plain_type(field.type)) for field in schema])


def to_values(table: pa.Table) -> list[Values]:
    """The rows of a table as JSON values."""
    schema = plain_schema(table.schema)
    plain = table.cast(schema)
    try:
        rows: list[Values] = plain.to_pylist()
    except UnicodeDecodeError:
        rows = plain.cast(pa.schema([f.with_type(_as_bytes(f.type)) for f in schema])).to_pylist()
    types = {field.name: field.type for field in schema}
    return [{name: _encoded(value, types[name]) for name, value in row.items()} for row in rows]


def to_table(rows: Iterable[Values], schema: pa.Schema) -> pa.Table:
    """The rows as a table of these columns; what a row lacks is null."""
    plain = plain_schema(schema)
    types = {field.name: field.type for field in plain}
    decoded = [
        {name: _decoded(row.get(name), type_) for name, type_ in types.items()} for row in rows
    ]
    return pa.Table.from_pylist(decoded, schema=plain).cast(schema)


def as_text(value: Any) -> str:
    """An answer as a text for people and trainers: tags with commas between, objects as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def _plain_scalar(type_: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if types.is_float16(type_):
        return pa.float32()
    if types.is_duration(type_):
        return pa.int64()
    if types.is_decimal(type_) or types.is_date(type_) or types.is_time(type_):
        return pa.string()
    if types.is_timestamp(type_):
        return pa.string()
    is_kept = (
        types.is_null(type_)
        or types.is_boolean(type_)
        or types.is_integer(type_)
        or types.is_floating(type_)
        or types.is_fixed_size_binary(type_)
        or is_string(type_)
        or is_binary(type_)
    )
    return type_ if is_kept else None


def _combined(parts: list[pa.DataType], make: Any) -> pa.DataType | None:
    """A nested type of plain ones; None if one of them is not."""
    plain = [plain_type(part) for part in parts]
    return None if None in plain else make(plain)


def _is_list(type_: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(type_)
        or types.is_large_list(type_)
        or types.is_fixed_size_list(type_)
        or types.is_list_view(type_)
        or types.is_large_list_view(type_)
    )


def _as_bytes(type_: pa.DataType) -> pa.DataType:
    """A plain type with the bytes of its texts."""
    if is_string(type_):
        return pa.binary()
    if pa.types.is_map(type_):
        return pa.map_(_as_bytes(type_.key_type), _as_bytes(type_.item_type))
    if pa.types.is_list(type_):
        return pa.list_(_as_bytes(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_as_bytes(field.type)) for field in type_])
    return type_


def _encoded(value: Any, type_: pa.DataType) -> Any:
    """A Python value of a plain type as JSON has it."""
    if value is None:
        return None
    if isinstance(value, bytes):
        if is_string(type_):
            return value.decode(errors="replace")
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if pa.types.is_map(type_):
        return [[_encoded(k, type_.key_type), _encoded(v, type_.item_type)] for k, v in value]
    if pa.types.is_list(type_):
        return [_encoded(item, type_.value_type) for item in value]
    if pa.types.is_struct(type_):
        return {field.name: _encoded(value[field.name], field.type) for field in type_}
    return value


def _decoded(value: Any, type_: pa.DataType) -> Any:
    """A JSON value as Arrow takes it for a plain type."""
    if value is None:
        return None
    if is_binary(type_) or pa.types.is_fixed_size_binary(type_):
        return value if isinstance(value, bytes) else base64.b64decode(value)
    if pa.types.is_map(type_):
        return [(_decoded(k, type_.key_type), _decoded(v, type_.item_type)) for k, v in value]
    if pa.types.is_list(type_):
        return [_decoded(item, type_.value_type) for item in value]
    if pa.types.is_struct(type_):
        return {field.name: _decoded(value.get(field.name), field.type) for field in type_}
    return value
