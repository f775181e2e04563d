"""Decides by Arrow type which columns can hold images or text, and which pass through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contract.errors import UserError
from pipeline.contract.suggest import suggestion
from pipeline.contract.task import PICTURES, ColumnKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FAULT = "__fault__"
"""A column that `Source.read` may add: why a row cannot be read; null where it can."""


class MissingColumnError(UserError):
    """A column that a task reads and an input does not have.

    Args:
        column: Its name.
        message: One line.
    """

    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


def check_columns(schema: pa.Schema, columns: Mapping[str, ColumnKind]) -> None:
    """Check that an input has the columns that a task reads.

    Raises:
        MissingColumnError: A column is missing; the nearest is suggested.
        UserError: A column is of an unsuitable type.
    """
    for name, kind in columns.items():
        if name not in schema.names:
            raise MissingColumnError(
                name,
                f"INPUT has no column '{name}'; {suggestion(name, schema.names)}"
                f"its columns are {', '.join(schema.names)}",
            )
        type_ = schema.field(name).type
        if kind is ColumnKind.IMAGES and is_list(type_):
            type_ = type_.value_type
        if kind is ColumnKind.TEXT and not _is_text(type_):
            raise UserError(f"column '{name}' is {type_}; a text column is string")
        if kind in PICTURES and not is_image_type(type_):
            what = "a video" if kind is ColumnKind.VIDEO else "an image"
            raise UserError(
                f"column '{name}' is {schema.field(name).type}; {what} column is binary, "
                "struct<bytes, path> or string (a path or URL)"
                + (", or a list of these" if kind is ColumnKind.IMAGES else "")
            )


def is_binary(type_: pa.DataType) -> bool:
    """Whether it is one of Arrow's binary types."""
    return bool(
        pa.types.is_binary(type_)
        or pa.types.is_large_binary(type_)
        or pa.types.is_binary_view(type_)
    )


def is_string(type_: pa.DataType) -> bool:
    """Whether it is one of Arrow's string types."""
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_string_view(type_)
    )


def is_image_struct(type_: pa.DataType) -> bool:
    """Whether it is a struct of Hugging Face's encoded image: `bytes`, and usually `path`."""
    if not pa.types.is_struct(type_):
        return False
    fields = {type_.field(i).name: type_.field(i).type for i in range(type_.num_fields)}
    others = fields.keys() - {"bytes", "path"}
    return "bytes" in fields and is_binary(fields["bytes"]) and not others


def holds(type_: pa.DataType, is_kind: Callable[[pa.DataType], bool]) -> bool:
    """Whether it or a type in it, however deep in lists, structs and maps, is of a kind."""
    return is_kind(type_) or any(holds(inner, is_kind) for inner in _inner(type_))


def holds_binary(type_: pa.DataType) -> bool:
    """Whether there is a binary type anywhere in it."""
    return holds(type_, is_binary)


def image_paths(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The paths of images in structs (`is_image_struct`), as strings; null where there is none."""
    if column.type.get_field_index("path") < 0:
        return pa.chunked_array([pa.nulls(len(column), pa.string())])
    return pc.struct_field(column, "path")


def is_image_type(type_: pa.DataType) -> bool:
    """Whether a column of this type can hold images, or their paths or URLs."""
    return is_binary(type_) or is_string(type_) or is_image_struct(type_)


def _is_text(type_: pa.DataType) -> bool:
    return is_string(type_.value_type if pa.types.is_dictionary(type_) else type_)


def is_list(type_: pa.DataType) -> bool:
    """Whether it is one of Arrow's list types."""
    return bool(
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
    )


def without_binary(schema: pa.Schema) -> pa.Schema:
    """The columns that pass through where images are not kept: none of binary, or lists of it.

    Those with binary deeper inside do, without it (`leaves_kept`). Metadata is dropped too: Hugging
    Face's would describe images that are no longer there.
    """
    return pa.schema([field for field in schema if not _is_binary_or_lists(field.type)])


def _is_binary_or_lists(type_: pa.DataType) -> bool:
    return _is_binary_or_lists(type_.value_type) if is_list(type_) else is_binary(type_)


def leaves_kept(type_: pa.DataType) -> list[bool]:
    """Which leaves of a type, in parquet's order, are read where images are not kept.

    A field of a struct of which none is read is null; so is what cannot be read in part.
    """
    if _is_null(type_):
        return [False] * _leaves(type_)
    if pa.types.is_struct(type_) or _is_plain_list(type_):
        return [kept for inner in _inner(type_) for kept in leaves_kept(inner)]
    return [True] * _leaves(type_)


def _is_null(type_: pa.DataType) -> bool:
    """Whether all of it is null without its binary; of a struct it is a field alone."""
    if pa.types.is_struct(type_):
        return False
    return _is_null(type_.value_type) if _is_plain_list(type_) else holds_binary(type_)


def _is_plain_list(type_: pa.DataType) -> bool:
    """Whether it is a list of any length, which can be read with some fields of its structs."""
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_))


def _leaves(type_: pa.DataType) -> int:
    return sum(map(_leaves, _inner(type_))) or 1


def _inner(type_: pa.DataType) -> list[pa.DataType]:
    """The types that a nested one is made of."""
    if isinstance(type_, pa.BaseExtensionType):
        return _inner(type_.storage_type)
    if pa.types.is_dictionary(type_):
        return [type_.value_type]
    return [type_.field(place).type for place in range(type_.num_fields)]


def table_of(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table of these columns, also where there are none."""
    return pa.Table.from_pylist(rows, schema=schema) if schema.names else without_columns(len(rows))


def without_columns(rows: int) -> pa.Table:
    """A table of so many rows and no columns: an input may have nothing but images."""
    return pa.table({"_": pa.nulls(rows)}).select([])
