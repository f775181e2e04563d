"""Decides how a row's values are written as JSON, and read back with their types.

    Arrow                                        JSON
    bool, numbers, text                          as they are; NaN and infinities are null
    date, time, timestamp, decimal               text, as Arrow writes it
    those that are not read back from their text a whole number, in the column's unit
    duration                                     a whole number, in the column's unit
    binary                                       base64
    list                                         array
    struct                                       object
    map                                          array of [key, value]
    dictionary                                   its values

Arrow itself casts to types that JSON has and back, so a row that is read is the one that was
written. Of times Arrow writes some that it does not read: years beyond 9999 or before 0, and zones'
times of before 1900, whose offsets have seconds. Text that is not UTF-8, which passes through a
run, has U+FFFD in the place of its wrong bytes.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.sources.columns import is_binary, is_string

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

AT_ONCE = 256
DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
"""Of a fraction of a second, by Arrow's units."""
OfScalar = Callable[[pa.DataType], "pa.DataType | None"]
Values = dict[str, Any]
"""A row as JSON values, by column."""


def plain_type(type_: pa.DataType) -> pa.DataType | None:
    """The Arrow type that a column is cast to before it is written; None if there is none."""
    return _mapped(type_, _plain_scalar)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The columns with their plain types, all of which there are (`plain_type`)."""
    return pa.schema([field.with_type(plain_type(field.type)) for field in schema])


def to_values(table: pa.Table) -> Iterator[Values]:
    """The rows of a table as JSON values, a few of them in memory at a time."""
    for start in range(0, table.num_rows, AT_ONCE):
        yield from _values(table.slice(start, AT_ONCE))


def _values(table: pa.Table) -> Iterator[Values]:
    columns = [_column_values(table[field.name], field.type) for field in table.schema]
    for row in zip(*columns, strict=True):
        yield dict(zip(table.column_names, row, strict=True))


def _column_values(column: pa.ChunkedArray, type_: pa.DataType) -> list[Any]:
    values = _encoded_as(column, plain_type(type_))
    counted = _mapped(type_, _counted_scalar)
    if counted == plain_type(type_):  # there are no times in it
        return values
    numbers = _encoded_as(column, counted)
    read = _read_back(values, type_)
    triples = zip(values, numbers, read, strict=True)
    return [value if back == number else number for value, number, back in triples]


def _encoded_as(column: pa.ChunkedArray | pa.Array, type_: pa.DataType) -> list[Any]:
    """The values of a column, cast to a type that JSON has."""
    plain = column.cast(type_)
    try:
        values: list[Any] = plain.to_pylist()
    except UnicodeDecodeError:
        values = plain.cast(_mapped(type_, _bytes_of_text)).to_pylist()
    return [_encoded(value, type_) for value in values]


def _read_back(values: list[Any], type_: pa.DataType) -> list[Any]:
    """What values of a column with times will be read as, with times as numbers.

    A value that cannot be read stands for itself.
    """
    try:
        read = _array(values, type_, _read_scalar).cast(_mapped(type_, _itself))
        return _encoded_as(read, _mapped(type_, _counted_scalar))
    except (ValueError, pa.ArrowException):
        if len(values) == 1:
            return values
        return [back for value in values for back in _read_back([value], type_)]


def to_table(rows: Iterable[Values], schema: pa.Schema) -> pa.Table:
    """The rows as a table of these columns; what a row lacks is null."""
    rows = [*rows]
    columns = [_column([row.get(field.name) for row in rows], field.type) for field in schema]
    read = pa.schema([f.with_type(c.type) for f, c in zip(schema, columns, strict=True)])
    return pa.table(columns, schema=read).cast(schema)


def _column(values: list[Any], type_: pa.DataType) -> pa.Array:
    try:
        return _array(values, type_, _read_scalar).cast(type_)
    except (ValueError, TypeError, pa.ArrowException):  # not all times in it are texts
        read = _array(values, type_, _timed_scalar)
        return read.dictionary_encode() if pa.types.is_dictionary(type_) else read


def _array(values: list[Any], type_: pa.DataType, scalar: OfScalar) -> pa.Array:
    read = _mapped(type_, scalar)
    return pa.array([_decoded(value, read) for value in values], read)


def as_text(value: Any) -> str:
    """An answer as a text for people and trainers: tags with commas between, objects as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def _mapped(type_: pa.DataType, scalar: OfScalar) -> pa.DataType | None:
    """A type with its scalars replaced; None if one of them has no replacement."""
    types = pa.types
    if types.is_dictionary(type_):
        return _mapped(type_.value_type, scalar)
    if isinstance(type_, pa.BaseExtensionType):
        return _mapped(type_.storage_type, scalar)
    if types.is_map(type_):
        parts, make = [type_.key_type, type_.item_type], pa.map_
    elif _is_list(type_):
        parts, make = [type_.value_type], pa.list_
    elif types.is_struct(type_):
        parts, make = [field.type for field in type_], partial(_struct_like, type_)
    else:
        return scalar(type_)
    mapped = [_mapped(part, scalar) for part in parts]
    return None if None in mapped else make(*mapped)


def _struct_like(type_: pa.StructType, *kinds: pa.DataType) -> pa.StructType:
    return pa.struct([f.with_type(kind) for f, kind in zip(type_, kinds, strict=True)])


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


def _read_scalar(type_: pa.DataType) -> pa.DataType | None:
    """As plain, but Arrow (26) casts no text to a time of day, so that is read by `_clock`."""
    return type_ if pa.types.is_time(type_) else _plain_scalar(type_)


def _timed_scalar(type_: pa.DataType) -> pa.DataType | None:
    """As plain, but with dates and times as they are, which are read one by one."""
    return type_ if _is_time(type_) else _plain_scalar(type_)


def _counted_scalar(type_: pa.DataType) -> pa.DataType | None:
    """As plain, but with dates and times as whole numbers."""
    if _is_time(type_):
        return pa.int32() if type_.bit_width == pa.int32().bit_width else pa.int64()
    return _plain_scalar(type_)


def _itself(type_: pa.DataType) -> pa.DataType:
    return type_


def _is_time(type_: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_date(type_) or types.is_time(type_) or types.is_timestamp(type_))


def _bytes_of_text(type_: pa.DataType) -> pa.DataType:
    return pa.binary() if is_string(type_) else type_


def _is_list(type_: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(type_)
        or types.is_large_list(type_)
        or types.is_fixed_size_list(type_)
        or types.is_list_view(type_)
        or types.is_large_list_view(type_)
    )


def _encoded(value: Any, type_: pa.DataType) -> Any:
    """A Python value of a plain type as JSON has it."""
    if value is None:
        return None
    if isinstance(value, bytes):
        is_text = is_string(type_)
        return value.decode(errors="replace") if is_text else base64.b64encode(value).decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _nested(value, type_, _encoded)


def _decoded(value: Any, type_: pa.DataType) -> Any:
    """A JSON value as Arrow takes it for a plain type."""
    if value is None:
        return None
    if is_binary(type_) or pa.types.is_fixed_size_binary(type_):
        return value if isinstance(value, bytes) else base64.b64decode(value)
    if _is_time(type_):
        return value if isinstance(value, int) else _counted(value, type_)
    return _nested(value, type_, _decoded)


def _nested(value: Any, type_: pa.DataType, each: Callable[[Any, pa.DataType], Any]) -> Any:
    """What a nested value holds, each by its type; another value as it is."""
    if pa.types.is_map(type_):
        return [(each(k, type_.key_type), each(v, type_.item_type)) for k, v in value]
    if pa.types.is_list(type_):
        return [each(item, type_.value_type) for item in value]
    if pa.types.is_struct(type_):
        return {field.name: each(value.get(field.name), field.type) for field in type_}
    return value


def _counted(text: str, type_: pa.DataType) -> int:
    """A date or a time in its unit. Raises ValueError, pa.ArrowException."""
    if text.removeprefix("-").isdecimal():  # in CSV a number is a text
        return int(text)
    return (
        _clock(text, type_.unit) if pa.types.is_time(type_) else pa.scalar(text).cast(type_).value
    )


def _clock(text: str, unit: str) -> int:
    """A time of day, as Arrow writes it, in its unit since midnight."""
    hours, minutes, seconds = text.split(":")
    whole, _, fraction = seconds.partition(".")
    digits = DIGITS[unit]
    total = (int(hours) * 60 + int(minutes)) * 60 + int(whole)
    return total * int(10**digits) + int(fraction.ljust(digits, "0")[:digits] or 0)
