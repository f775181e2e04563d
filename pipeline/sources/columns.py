"""Which columns can hold images, which are too heavy to pass through, what a task may ask for.

Decides by Arrow type alone; where the columns come from is each source's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.contract.errors import UserError
from pipeline.contract.suggest import suggestion
from pipeline.contract.task import ColumnKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FAULT = "__fault__"
"""A column that `Source.read` may add: what is wrong with a row that cannot be read, else null."""


def check_columns(schema: pa.Schema, columns: Mapping[str, ColumnKind]) -> None:
    """Check that an input offers what a task reads.

    Raises:
        UserError: A column is missing (the nearest is suggested), or its type cannot be read so.
    """
    for name, kind in columns.items():
        if name not in schema.names:
            raise UserError(_missing_column(name, schema.names))
        type_ = schema.field(name).type
        if kind is ColumnKind.IMAGES and _is_list(type_):
            type_ = type_.value_type
        if kind is ColumnKind.TEXT and not _is_text(type_):
            raise UserError(f"column '{name}' is {type_}; a text column is string")
        if kind in (ColumnKind.IMAGE, ColumnKind.IMAGES) and not is_image_type(type_):
            raise UserError(
                f"column '{name}' is {schema.field(name).type}; an image column is binary, "
                "struct<bytes, path> or string (a path or URL)"
                + (", or a list of these" if kind is ColumnKind.IMAGES else "")
            )


def _missing_column(name: str, names: Sequence[str]) -> str:
    return (
        f"INPUT has no column '{name}'; {suggestion(name, names)}its columns are {', '.join(names)}"
    )


def is_binary(type_: pa.DataType) -> bool:
    """Whether it is one of Arrow's types of bytes."""
    return bool(
        pa.types.is_binary(type_)
        or pa.types.is_large_binary(type_)
        or pa.types.is_binary_view(type_)
    )


def is_string(type_: pa.DataType) -> bool:
    """Whether it is one of Arrow's types of text."""
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_string_view(type_)
    )


def is_image_struct(type_: pa.DataType) -> bool:
    """Hugging Face's encoded image: `bytes`, and usually `path`."""
    if not pa.types.is_struct(type_):
        return False
    fields = {type_.field(i).name: type_.field(i).type for i in range(type_.num_fields)}
    others = fields.keys() - {"bytes", "path"}
    return "bytes" in fields and is_binary(fields["bytes"]) and not others


def is_image_type(type_: pa.DataType) -> bool:
    """Whether a column of this type can hold images, their paths or their URLs."""
    return is_binary(type_) or is_string(type_) or is_image_struct(type_)


def _is_text(type_: pa.DataType) -> bool:
    return is_string(type_.value_type if pa.types.is_dictionary(type_) else type_)


def _is_list(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
    )


def is_heavy(type_: pa.DataType) -> bool:
    """Whether pass-through drops it: binary, or a list of binary."""
    if _is_list(type_):
        return is_heavy(type_.value_type)
    return is_binary(type_)


def without_heavy(schema: pa.Schema) -> pa.Schema:
    """The columns that pass through where images are not kept.

    Metadata goes too: Hugging Face's would promise images that are no longer there.
    """
    return pa.schema([field for field in schema if not is_heavy(field.type)])


def bare(rows: int) -> pa.Table:
    """A table of rows without columns: an input may have nothing but images."""
    return pa.table({"_": pa.nulls(rows)}).select([])
