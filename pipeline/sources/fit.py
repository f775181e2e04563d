"""Decides how the rows of a file get the columns of the whole input, which may have more and wider.

Columns and fields of structs that a file lacks are null. Values are never rounded or cut: one that
the wider type cannot hold (a date beyond what nanoseconds reach, a whole number that a double would
round) is an error.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.sources.columns import without_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

ANY_INTEGER = pa.decimal128(20)
"""Holds the integers of every width; from it Arrow casts what fits, from integers only types."""
EXACT = {pa.float16(): 2.0**11, pa.float32(): 2.0**24, pa.float64(): 2.0**53}
"""Below these every whole number is exact."""


def fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of a file as a table of these columns.

    Args:
        table: Rows with some or all of the columns, of types that theirs can hold.
        schema: The columns.

    Raises:
        pa.ArrowInvalid: A value does not fit; the message names its column.
    """
    if not schema.names:
        return without_columns(table.num_rows)
    return pa.table([_column(table, field) for field in schema], schema=schema)


def _column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    if field.name not in table.column_names:
        return pa.nulls(table.num_rows, field.type)
    column = table.column(field.name)
    if column.type == field.type:
        return column
    try:
        return pa.chunked_array([_fitted(piece, field.type) for piece in column.chunks], field.type)
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(
            f"column '{field.name}' has a value that does not fit {field.type}, which other files "
            f"need: {error}"
        ) from None


def _fitted(values: pa.Array, type_: pa.DataType) -> pa.Array:
    if values.type == type_:
        return values
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), type_)
    if pa.types.is_dictionary(values.type) and not pa.types.is_dictionary(type_):
        return _fitted(values.dictionary_decode(), type_)
    if pa.types.is_struct(type_) and pa.types.is_struct(values.type):
        children = [*_children(values, type_)]
        return pa.StructArray.from_arrays(children, fields=[*type_], mask=values.is_null())
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return _fitted_list(values, type_)
    if pa.types.is_integer(values.type) and pa.types.is_decimal(type_):
        values = values.cast(ANY_INTEGER)
    fitted = values.cast(type_)
    if pa.types.is_decimal(values.type) and pa.types.is_floating(type_):
        _check_whole_numbers(values, fitted)
    return fitted


def _check_whole_numbers(decimals: pa.Array, floats: pa.Array) -> None:
    """Arrow checks that of integers, but not of decimals. Raises pa.ArrowInvalid."""
    is_large = pc.greater_equal(pc.abs(floats), EXACT[floats.type])
    pairs = zip(decimals.filter(is_large), floats.filter(is_large), strict=True)
    for decimal, near in pairs:
        if not math.isfinite(near.as_py()) or int(decimal.as_py()) != int(near.as_py()):
            raise pa.ArrowInvalid(f"{decimal} would be rounded to {near}")


def _children(structs: pa.StructArray, type_: pa.StructType) -> Iterator[pa.Array]:
    places = {field.name: place for place, field in enumerate(structs.type)}
    for field in type_:
        if field.name in places:
            yield _fitted(structs.field(places[field.name]), field.type)
        else:
            yield pa.nulls(len(structs), field.type)


def _fitted_list(lists: pa.Array, type_: pa.DataType) -> pa.Array:
    is_large = pa.types.is_large_list(type_)
    made, offset = (pa.LargeListArray, pa.int64()) if is_large else (pa.ListArray, pa.int32())
    lengths = pc.fill_null(pc.list_value_length(lists).cast(offset), 0)
    offsets = pa.concat_arrays([pa.array([0], offset), pc.cumulative_sum(lengths)])
    items = _fitted(lists.flatten(), type_.value_type)
    return made.from_arrays(offsets, items, type=type_, mask=lists.is_null())
