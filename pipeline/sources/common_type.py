"""Decides which type holds the values of two, where the files of an input differ.

    one          the other                                          the values of both
    null         anything                                           the other
    a number     another number; dates, times, decimals likewise    as Arrow promotes them
    string       large_string, string_view, dictionary of strings   string, large if one is
    binary       large_binary, binary_view, of a fixed size         binary, large if one is
    a list       another list                                       list, large if one is
    a struct     another struct                                     all fields of both, by name

Items of lists and fields of structs are united in the same way. Text has no type in common with
numbers, nor with bytes, where Arrow would make bytes of it.

Also decides which types may lie side by side in the parts of an OUTPUT (`reads_as`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.sources.columns import is_binary, is_string

if TYPE_CHECKING:
    from collections.abc import Iterator

INDEX = pa.int32()
"""The type of dictionaries' indices in parts."""
Scalar = Callable[[pa.DataType, pa.DataType], pa.DataType | None]
"""The type that holds the values of two which are not both lists or both structs; None if there is
none."""


class NoCommonTypeError(ValueError):
    """No type holds the values of both.

    Args:
        one: The first type.
        other: The second.
        place: Where in the column they are: empty, `.field` or `[]`, or several of these.
    """

    def __init__(self, one: pa.DataType, other: pa.DataType, place: str = "") -> None:
        super().__init__(f"{one} and {other} have no type in common")
        self.one = one
        self.other = other
        self.place = place


def arrow_scalar(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The common type by Arrow's permissive promotion, where text and bytes stay apart."""
    one, other = _without_dictionary(one), _without_dictionary(other)
    families = (
        (is_string, pa.string(), pa.large_string()),
        (_is_bytes, pa.binary(), pa.large_binary()),
    )
    for is_member, plain, large in families:
        if is_member(one) or is_member(other):
            if not (is_member(one) and is_member(other)):
                return None
            return large if large in (one, other) else plain
    schemas = [pa.schema([("x", type_)]) for type_ in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field("x").type
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return None


def common_type(one: pa.DataType, other: pa.DataType, scalar: Scalar = arrow_scalar) -> pa.DataType:
    """The type that holds the values of both.

    Args:
        one: The first type; its fields come first.
        other: The second.
        scalar: Unites types that are not both lists or both structs.

    Raises:
        NoCommonTypeError: There is none.
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if _is_list(one) and _is_list(other):
        item = _inside("[]", one.value_type, other.value_type, scalar)
        is_large = pa.types.is_large_list(one) or pa.types.is_large_list(other)
        return pa.large_list(item) if is_large else pa.list_(item)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return pa.struct([*_common_fields(one, other, scalar)])
    found = scalar(one, other)
    if found is None:
        raise NoCommonTypeError(one, other)
    return found


def stored_type(type_: pa.DataType) -> pa.DataType:
    """What parts have of a type, so that later files can bring more of it.

    Null, which tells nothing of what a later file may have, becomes string. The indices of a
    dictionary have room for more values than one file has.
    """
    if pa.types.is_null(type_):
        return pa.string()
    if pa.types.is_dictionary(type_) and type_.index_type.bit_width < INDEX.bit_width:
        return pa.dictionary(INDEX, type_.value_type, type_.ordered)
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(stored_type(field.type)) for field in type_])
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        made = pa.list_ if pa.types.is_list(type_) else pa.large_list
        return made(type_.value_field.with_type(stored_type(type_.value_type)))
    return type_


def have_same_values(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether two types differ at most in how they lay out the same values.

    A dictionary counts as what it holds, unless its indices have room for few values.
    """
    return bool(_plain(one) == _plain(other))


def reads_as(before: pa.DataType, after: pa.DataType) -> bool:
    """Whether a reader that expects the values of `before` can read those of `after`.

    Readers, `pyarrow.dataset` among them, take the types of a folder from its first file. They read
    a struct without the fields that they do not expect, and round a double; a whole number, a date
    or a text that does not fit is an error to them.
    """
    if have_same_values(before, after):
        return True
    if pa.types.is_floating(before) and pa.types.is_floating(after):
        return True
    if _is_list(before) and _is_list(after):
        return reads_as(before.value_type, after.value_type)
    if pa.types.is_struct(before) and pa.types.is_struct(after):
        theirs = {field.name: field.type for field in after}
        return all(
            field.name in theirs and reads_as(field.type, theirs[field.name]) for field in before
        )
    return False


def _inside(place: str, one: pa.DataType, other: pa.DataType, scalar: Scalar) -> pa.DataType:
    try:
        return common_type(one, other, scalar)
    except NoCommonTypeError as error:
        raise NoCommonTypeError(error.one, error.other, place + error.place) from None


def _common_fields(one: pa.StructType, other: pa.StructType, scalar: Scalar) -> Iterator[pa.Field]:
    """The fields of both; one that either lacks can be null."""
    theirs = {field.name: field for field in other}
    for field in one:
        match = theirs.pop(field.name, None)
        if match is None:
            yield field.with_nullable(True)
        else:
            type_ = _inside(f".{field.name}", field.type, match.type, scalar)
            yield field.with_type(type_).with_nullable(field.nullable or match.nullable)
    for field in theirs.values():
        yield field.with_nullable(True)


def _plain(type_: pa.DataType) -> pa.DataType:
    """The plainest type with the same values."""
    if pa.types.is_dictionary(type_) and type_.index_type.bit_width >= INDEX.bit_width:
        type_ = type_.value_type
    if is_string(type_):
        return pa.string()
    if is_binary(type_):
        return pa.binary()
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return pa.list_(_plain(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([(field.name, _plain(field.type)) for field in type_])
    return type_


def _without_dictionary(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _is_bytes(type_: pa.DataType) -> bool:
    return is_binary(type_) or bool(pa.types.is_fixed_size_binary(type_))


def _is_list(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
    )
