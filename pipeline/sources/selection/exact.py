"""Decides how columns of exact numbers, integers and decimals, are compared: exactly.

Arrow would cast a column and a value to one type, and fail or round where a number is not exact
there: as doubles, neighbouring ids of nineteen digits are the same. A value that the column's type
has not is replaced by the nearest that it has: of integers, `n > 1.5` is `n > 1`.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

import pyarrow as pa

from pipeline.sources.fit import ANY_INTEGER

MOST_DIGITS = 38
"""Digits that a decimal of 128 bits has at most."""
MOST_DIGITS_OF_ALL = 76
EQUAL, UNEQUAL, LESS = ("=", "=="), ("!=", "<>"), ("<", "<=")


def is_exact(type_: pa.DataType) -> bool:
    """Whether it is a type of exact numbers."""
    return bool(pa.types.is_integer(type_) or pa.types.is_decimal(type_))


def as_of_type(sign: str, value: int | Decimal, type_: pa.DataType) -> tuple[str, pa.Scalar]:
    """A comparison with a value of a type that is true for the same values of it.

    Args:
        sign: The operator, after which the value stands.
        value: Any number.
        type_: An exact one.

    Returns:
        The operator and the value.
    """
    low, high = _range(type_)
    number = _in_last_digits(value, type_)
    below = low - 1 if number < low else high if number > high else _floor(number)
    if low <= number == below:
        return sign, _scalar(below, type_)
    if sign in (*EQUAL, *UNEQUAL):  # none is equal to it, but null is neither
        return "<" if sign in EQUAL else ">=", _scalar(low, type_)
    if below < low:
        return "<" if sign in LESS else ">=", _scalar(low, type_)
    return "<=" if sign in LESS else ">", _scalar(below, type_)


def common_decimal(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """A type that holds the numbers of two exact ones; None if they have too many digits."""
    decimals = [type_ if pa.types.is_decimal(type_) else ANY_INTEGER for type_ in (one, other)]
    scale = max(type_.scale for type_ in decimals)
    digits = scale + max(type_.precision - type_.scale for type_ in decimals)
    if digits > MOST_DIGITS_OF_ALL:
        return None
    return (pa.decimal128 if digits <= MOST_DIGITS else pa.decimal256)(digits, scale)


def _range(type_: pa.DataType) -> tuple[int, int]:
    """The least and the greatest value, in units of the last digit."""
    if pa.types.is_decimal(type_):
        return 1 - 10**type_.precision, 10**type_.precision - 1
    if pa.types.is_unsigned_integer(type_):
        return 0, int(2**type_.bit_width) - 1
    return -int(2 ** (type_.bit_width - 1)), int(2 ** (type_.bit_width - 1)) - 1


def _in_last_digits(value: int | Decimal, type_: pa.DataType) -> Decimal:
    """A number in units of the type's last digit; as `scaleb`, but never rounded."""
    negative, digits, exponent = Decimal(value).as_tuple()
    assert isinstance(exponent, int), "a number of a condition is finite"
    return Decimal((negative, digits, exponent + _scale(type_)))


def _floor(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_FLOOR))


def _scalar(value: int, type_: pa.DataType) -> pa.Scalar:
    if pa.types.is_integer(type_):
        return pa.scalar(value, type_)
    negative, digits, _ = Decimal(value).as_tuple()
    return pa.scalar(Decimal((negative, digits, -_scale(type_))), type_)


def _scale(type_: pa.DataType) -> int:
    return int(type_.scale) if pa.types.is_decimal(type_) else 0
