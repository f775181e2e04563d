"""Decides the Arrow type of a JSON column, and whether a value fits it.

    JSON                                    Arrow
    true, false                             bool
    whole numbers within 64 bits            int64
    other numbers, or both kinds mixed      double
    whole numbers that a double would round, beyond 64 bits or mixed with others   string
    text, or text, numbers and booleans mixed                                      string
    array                                   list of what its elements are
    object                                  struct of all fields seen, absent ones null
    nothing but null                        string

In a column of text, numbers and booleans are as JSON writes them. Text beside arrays or objects has
no common type: within a file the most frequent stands, and files are refused (`unified`).

Arrow's own conversion is not used, as it is too lenient: it truncates 1.5 to 1 in a column of
integers, accepts text as a list of letters and 1 as true. Here a value that does not fit is null,
inside an array or an object too, and costs nothing else of its row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.sources.common_type import NoCommonTypeError, reads_as
from pipeline.sources.unified import TypeRules

if TYPE_CHECKING:
    from collections.abc import Iterable

INT64 = range(-(2**63), 2**63)

Types = Mapping[str, Counter[pa.DataType]]
"""How many values of each column are of each type."""


class MisfitError(ValueError):
    """A value that does not fit its column's type; the message names the field."""


def types_of(rows: Iterable[Mapping[str, object]]) -> Types:
    """The types of the values in these rows; columns are in the order in which they first occur."""
    seen: dict[str, Counter[pa.DataType]] = {}
    for row in rows:
        for name, value in row.items():
            seen.setdefault(name, Counter())[_type_of(value)] += 1
    return seen


def columns_of(types: Types, planned: pa.Schema | None = None) -> pa.Schema:
    """The columns of a file, to be united by `JSON` with those of other files.

    Where the values of a column have incompatible types, the most frequent type is taken. A planned
    column keeps its type if that holds at least half of the values; the others do not fit it.

    Args:
        types: Of the file's values.
        planned: The schema as an earlier plan recorded it.
    """
    known = {} if planned is None else {field.name: field.type for field in planned}
    return pa.schema(
        [(name, _most_of(_held(counted, known.get(name)))) for name, counted in types.items()]
    )


def _held(counted: Counter[pa.DataType], planned: pa.DataType | None) -> Counter[pa.DataType]:
    """The types that a planned column holds, if half of the values are of these; else all."""
    if planned is None:
        return counted
    held = Counter({kind: count for kind, count in counted.items() if _holds(planned, kind)})
    return held if 2 * held.total() >= counted.total() else counted


def _holds(planned: pa.DataType, kind: pa.DataType) -> bool:
    try:
        stored = _storable(JSON.common(planned, kind))
    except NoCommonTypeError:
        return False
    return stored is not None and reads_as(planned, stored)


def convert(value: object, type_: pa.DataType, name: str, faults: list[str]) -> object:
    """Convert a JSON value to what Arrow stores in a column; what does not fit is null.

    Args:
        value: As `json` parsed it.
        type_: The column's type.
        name: The field's name, for messages.
        faults: A message is added for each value that does not fit.
    """
    if value is None:
        return None
    try:
        scalar = _SCALARS.get(type_)
        if scalar is not None:
            return scalar(value, name)
        if pa.types.is_list(type_) and isinstance(value, list):
            return [convert(item, type_.value_type, f"{name}[]", faults) for item in value]
        if pa.types.is_struct(type_) and isinstance(value, dict):
            return {
                field.name: convert(
                    value.get(field.name), field.type, f"{name}.{field.name}", faults
                )
                for field in type_
            }
        raise _misfit(value, type_, name)
    except MisfitError as error:
        faults.append(str(error))
        return None


def _misfit(value: object, type_: pa.DataType, name: str) -> MisfitError:
    kinds = {bool: "a boolean", str: "text", list: "an array", dict: "an object"}
    return MisfitError(f"'{name}' is {kinds.get(type(value), 'a number')}, not {type_}")


def _to_bool(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return value
    raise _misfit(value, pa.bool_(), name)


def _to_int(value: object, name: str) -> int:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and value == value // 1 and int(value) in INT64:  # type: ignore[operator,call-overload]
        return int(value)  # type: ignore[call-overload,no-any-return]
    raise _misfit(value, pa.int64(), name)


def _to_float(value: object, name: str) -> float:
    if isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if not _is_exact(value):
            raise MisfitError(f"'{name}' is a whole number that a double does not hold")
        return float(value)
    raise _misfit(value, pa.float64(), name)


def _to_text(value: object, name: str) -> str:
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    if not isinstance(value, str):
        raise _misfit(value, pa.string(), name)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MisfitError(f"'{name}' has half of a character (a lone surrogate)") from None
    return value


_SCALARS = {
    pa.bool_(): _to_bool,
    pa.int64(): _to_int,
    pa.float64(): _to_float,
    pa.string(): _to_text,
}


_LONG = pa.decimal128(19)
"""Stands for whole numbers within 64 bits that a double would round, until columns are stored."""
_NUMBERS = {
    frozenset({pa.int64(), pa.float64()}): pa.float64(),
    frozenset({pa.int64(), _LONG}): _LONG,
}
"""The common types of numbers; all other scalars have text in common."""


def _is_exact(number: int) -> bool:
    """Whether a double holds it as it is."""
    try:
        return int(float(number)) == number
    except OverflowError:
        return False


def _type_of(value: Any) -> pa.DataType:
    """The type of one value."""
    if isinstance(value, list):
        return pa.list_(_most_of(Counter(_type_of(item) for item in value)))
    if isinstance(value, dict):
        return pa.struct([(name, _type_of(item)) for name, item in value.items()])
    if isinstance(value, int) and not isinstance(value, bool) and not _is_exact(value):
        return _LONG if value in INT64 else pa.string()
    if isinstance(value, int) and not isinstance(value, bool) and value not in INT64:
        return pa.float64()
    scalars = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    return scalars.get(type(value), pa.null())


def _most_of(counted: Counter[pa.DataType]) -> pa.DataType:
    """A common type for as many of these as have one, taking the most frequent first."""
    found = pa.null()
    for type_, _ in counted.most_common():
        common = _common_type(found, type_)
        found = found if common is None else common
    return found


def _common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds the values of both, or None."""
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_common_type(one.value_type, other.value_type) or one.value_type)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _common_struct(one, other)
    return _common_scalar(one, other)


def _common_scalar(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if pa.types.is_nested(one) or pa.types.is_nested(other):
        return None
    return _NUMBERS.get(frozenset({one, other}), pa.string())


def _common_struct(one: pa.StructType, other: pa.StructType) -> pa.StructType:
    """All fields of both; a field without a common type keeps its first."""
    types = {field.name: field.type for field in one}
    for field in other:
        known = types.get(field.name, pa.null())
        types[field.name] = _common_type(known, field.type) or known
    return pa.struct(list(types.items()))


def _storable(type_: pa.DataType) -> pa.DataType | None:
    """The type with null replaced by string; None where parquet cannot store it."""
    if pa.types.is_null(type_):
        return pa.string()
    if type_ == _LONG:
        return pa.int64()
    if pa.types.is_list(type_):
        item = _storable(type_.value_type)
        return None if item is None else pa.list_(item)
    if pa.types.is_struct(type_):
        fields = [(field.name, _storable(field.type)) for field in type_]
        kept = [(name, storable) for name, storable in fields if storable is not None]
        return pa.struct(kept) if kept else None
    return type_


JSON = TypeRules(scalar=_common_scalar, stored=_storable)
"""How the columns of several files are united."""
