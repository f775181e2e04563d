"""Decides that a result is stored as the task gave it, or else its row fails.

Arrow makes 1 of 1.5 for a column of whole numbers, and leaves out what a struct has no field for;
both without a word. Numbers may be stored less precisely (`float32`), and times in a coarser unit:
whoever chose such a column asked for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_exact(rows: Sequence[Mapping[str, object]], stored: pa.Table) -> None:
    """Check the values of rows against the table that Arrow made of them.

    Args:
        rows: What each row has by column; one that it lacks is null.
        stored: The same rows; of its columns all are looked at that Arrow may have changed.

    Raises:
        ValueError: A value was changed; the message names it and its column.
    """
    for field in stored.schema:
        if not _may_change(field.type):
            continue
        for row, kept in zip(rows, stored.column(field.name).to_pylist(), strict=True):
            _check(row.get(field.name), kept, field.type, field.name)


def _may_change(type_: pa.DataType) -> bool:
    if _is_list(type_) or pa.types.is_dictionary(type_):
        return _may_change(type_.value_type)
    if pa.types.is_map(type_):
        return _may_change(type_.key_type) or _may_change(type_.item_type)
    return bool(pa.types.is_integer(type_) or pa.types.is_struct(type_))


def _is_list(type_: pa.DataType) -> bool:
    kinds = (
        pa.types.is_list,
        pa.types.is_large_list,
        pa.types.is_fixed_size_list,
        pa.types.is_list_view,
        pa.types.is_large_list_view,
    )
    return any(is_kind(type_) for is_kind in kinds)


def _check(given: Any, kept: Any, type_: pa.DataType, name: str) -> None:
    if given is None or kept is None:
        return
    if pa.types.is_integer(type_):
        if given != kept:
            raise ValueError(f"'{name}' is {given}, which is no {type_}")
    elif pa.types.is_dictionary(type_):
        _check(given, kept, type_.value_type, name)
    elif _is_list(type_):
        _check_all(given, kept, type_.value_type, name)
    elif pa.types.is_map(type_):
        pairs = [*(given.items() if isinstance(given, Mapping) else given)]
        _check_all([key for key, _ in pairs], [key for key, _ in kept], type_.key_type, name)
        _check_all([value for _, value in pairs], [v for _, v in kept], type_.item_type, name)
    elif pa.types.is_struct(type_) and isinstance(given, Mapping):
        _check_fields(given, kept, type_, name)


def _check_fields(given: Mapping[str, Any], kept: Any, type_: pa.StructType, name: str) -> None:
    unknown = given.keys() - {field.name for field in type_}
    if unknown:
        raise ValueError(f"'{name}' has no field {', '.join(sorted(map(str, unknown)))}")
    for field in type_:
        _check(given.get(field.name), kept[field.name], field.type, f"{name}.{field.name}")


def _check_all(
    given: Iterable[object], kept: Iterable[object], type_: pa.DataType, name: str
) -> None:
    for one, stored in zip(given, kept, strict=True):
        _check(one, stored, type_, name)
