"""The Arrow type of a JSON column, and whether a value fits it.

    JSON                                    Arrow
    true, false                             bool
    whole numbers within 64 bits            int64
    other numbers, or both kinds mixed      double
    text                                    string
    array                                   list of what its elements are
    object                                  struct of all fields seen, absent ones null
    nothing but null                        string

Decides both on its own, for Arrow's conversion is too willing: it cuts 1.5 to 1 in a column of
integers, takes text for a list of letters, and lets 1 be true. What does not fit is a fault of its
row here.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

INT64 = range(-(2**63), 2**63)


class MisfitError(ValueError):
    """A value that a column's type has no place for; the message names the field."""


def schema_of(rows: Iterable[Mapping[str, object]]) -> pa.Schema:
    """The columns of these rows, in the order in which they are first seen.

    Where a column has values of types that do not go together, the most frequent type stands.
    A column that holds nothing but empty objects is left out: parquet cannot store it.
    """
    seen: dict[str, Counter[pa.DataType]] = {}
    for row in rows:
        for name, value in row.items():
            seen.setdefault(name, Counter())[_type_of(value)] += 1
    types = {name: _settled(_most_of(counted)) for name, counted in seen.items()}
    return pa.schema([(name, type_) for name, type_ in types.items() if type_ is not None])


def fitted(value: object, type_: pa.DataType, name: str) -> object:
    """The value as Arrow may convert it to the type. Raises MisfitError."""
    if value is None:
        return None
    fit = _FITS.get(type_)
    if fit is not None:
        return fit(value, name)
    if pa.types.is_list(type_) and isinstance(value, list):
        return [fitted(item, type_.value_type, f"{name}[]") for item in value]
    if pa.types.is_struct(type_) and isinstance(value, dict):
        return {
            field.name: fitted(value.get(field.name), field.type, f"{name}.{field.name}")
            for field in type_
        }
    raise _misfit(value, type_, name)


def _misfit(value: object, type_: pa.DataType, name: str) -> MisfitError:
    kinds = {bool: "a boolean", str: "text", list: "an array", dict: "an object"}
    return MisfitError(f"'{name}' is {kinds.get(type(value), 'a number')}, not {type_}")


def _fitted_bool(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return value
    raise _misfit(value, pa.bool_(), name)


def _fitted_int(value: object, name: str) -> int:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and value == value // 1 and int(value) in INT64:  # type: ignore[operator,call-overload]
        return int(value)  # type: ignore[call-overload,no-any-return]
    raise _misfit(value, pa.int64(), name)


def _fitted_float(value: object, name: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise _misfit(value, pa.float64(), name)


def _fitted_text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise _misfit(value, pa.string(), name)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MisfitError(f"'{name}' has half of a character (a lone surrogate)") from None
    return value


_FITS = {
    pa.bool_(): _fitted_bool,
    pa.int64(): _fitted_int,
    pa.float64(): _fitted_float,
    pa.string(): _fitted_text,
}


def _type_of(value: Any) -> pa.DataType:
    """The type of one value by itself."""
    if isinstance(value, list):
        return pa.list_(_most_of(Counter(_type_of(item) for item in value)))
    if isinstance(value, dict):
        return pa.struct([(name, _type_of(item)) for name, item in value.items()])
    if isinstance(value, int) and not isinstance(value, bool) and value not in INT64:
        return pa.float64()
    scalars = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    return scalars.get(type(value), pa.null())


def _most_of(counted: Counter[pa.DataType]) -> pa.DataType:
    """One type for as many of these as go together, the most frequent ones first."""
    found = pa.null()
    for type_, _ in counted.most_common():
        joined = _joined(found, type_)
        found = found if joined is None else joined
    return found


def _joined(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds values of both, or None."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        item = _joined(one.value_type, other.value_type)
        return None if item is None else pa.list_(item)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _joined_structs(one, other)
    return None


def _joined_structs(one: pa.StructType, other: pa.StructType) -> pa.StructType | None:
    types = {field.name: field.type for field in one}
    for field in other:
        joined = _joined(types.get(field.name, pa.null()), field.type)
        if joined is None:
            return None
        types[field.name] = joined
    return pa.struct(list(types.items()))


def _settled(type_: pa.DataType) -> pa.DataType | None:
    """The type with null made string; None where nothing is left that parquet could store."""
    if pa.types.is_null(type_):
        return pa.string()
    if pa.types.is_list(type_):
        item = _settled(type_.value_type)
        return None if item is None else pa.list_(item)
    if pa.types.is_struct(type_):
        fields = [(field.name, _settled(field.type)) for field in type_]
        kept = [(name, settled) for name, settled in fields if settled is not None]
        return pa.struct(kept) if kept else None
    return type_
