"""Decides what a condition means for an input: an Arrow expression over its columns.

Null is as in SQL: a comparison with null is neither true nor false, and a row is taken only where
the condition is true. All columns and types are checked before anything is read.
"""

from __future__ import annotations

import datetime
import math
import operator
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contract.errors import UserError, one_line
from pipeline.contract.suggest import suggestion
from pipeline.sources.columns import is_string
from pipeline.sources.selection.condition import name_of, parsed, value_of
from pipeline.sources.selection.exact import as_of_type, common_decimal, is_exact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lark import Token, Tree

    Value = str | int | Decimal | bool

COMPARISONS: Mapping[str, Callable[[Any, Any], pc.Expression]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""The operators that change when their sides do."""
FUNCTIONS: Mapping[str, Callable[..., pc.Expression]] = {
    "starts_with": pc.starts_with,
    "ends_with": pc.ends_with,
    "contains": pc.match_substring,
}
NUMBER, TEXT, TRUTH, OTHER = "a number", "text", "true or false", "other"
TIME, CLOCK = "a time", "a time of day"
"""What values of a type are to a condition."""
WRITTEN = {
    NUMBER: "5",
    TEXT: "'text'",
    TRUTH: "true",
    TIME: "'2024-01-31'",
    CLOCK: "'12:30:00'",
}
UNITS = ("s", "ms", "us", "ns")
"""Of times, from the coarsest."""
OF_DATES = {pa.date32(): "s", pa.date64(): "ms"}


@dataclass(frozen=True)
class Filter:
    """A condition on the rows of an input.

    Attributes:
        columns: The columns that it reads.
        expression: True for the rows to take.
    """

    columns: tuple[str, ...]
    expression: pc.Expression

    @staticmethod
    def of(text: str, schema: pa.Schema) -> Filter:
        """The filter that a condition is for an input.

        Args:
            text: The condition, see `condition`.
            schema: The input's columns.

        Raises:
            UserError: It cannot be read, names no column, or compares what cannot be compared.
        """
        tree = parsed(text)
        names = map(_name, tree.find_data("column"))
        columns = dict.fromkeys(_path_of(name, schema)[0] for name in names)
        return Filter((*columns,), _Meaning(schema).of(tree))

    def matches(self, rows: pa.Table) -> pa.ChunkedArray:
        """[rows] bool: which rows of a table match; never null.

        Raises:
            UserError: It cannot be computed.
        """
        from pyarrow import acero

        source = acero.Declaration("table_source", acero.TableSourceNodeOptions(rows))
        projected = acero.ProjectNodeOptions([self.expression], ["is_match"])
        plan = acero.Declaration("project", projected, inputs=[source])
        try:
            found = plan.to_table(use_threads=False)["is_match"]
        except pa.ArrowException as error:
            raise UserError(f"where: cannot be computed: {one_line(error)}") from error
        return pc.fill_null(found, False)


@dataclass(frozen=True)
class _Column:
    """A column, or a field of one, in a condition.

    Attributes:
        name: As it is written.
        type: Its type, of a dictionary that of its values.
        family: What its values are, one of `NUMBER` and so on.
        expression: Its values, of a type that can be compared.
    """

    name: str
    type: pa.DataType
    family: str
    expression: pc.Expression

    @staticmethod
    def of(name: str, schema: pa.Schema) -> _Column:
        path = _path_of(name, schema)
        type_ = schema.field(path[0]).type
        for field in path[1:]:
            type_ = type_.field(field).type
        values = type_.value_type if pa.types.is_dictionary(type_) else type_
        family = _family(values)
        plain = _comparable(values, family)
        expression = pc.field(*path) if len(path) > 1 else pc.field(path[0])
        if plain != type_:
            expression = expression.cast(plain)
        return _Column(name, plain, family, expression)

    def with_value(self, sign: str, value: Value) -> pc.Expression:
        """Compared with a value. Raises UserError where that cannot be one of this column."""
        if is_exact(self.type) and not isinstance(value, bool | str):
            sign, scalar = as_of_type(sign, value, self.type)
            return COMPARISONS[sign](self.expression, scalar)
        return COMPARISONS[sign](self.expression, self._scalar(value))

    def with_column(self, sign: str, other: _Column) -> pc.Expression:
        """Compared with a column. Raises UserError where the two cannot be compared."""
        compare = COMPARISONS[sign]
        if self.type == other.type and self.family != OTHER:
            return compare(self.expression, other.expression)
        common = _common(self, other)
        if common is None:
            raise UserError(
                f"where: columns '{self.name}' ({self.type}) and '{other.name}' "
                f"({other.type}) cannot be compared"
            )
        if pa.types.is_floating(common):
            return compare(self.about, other.about)
        return compare(self.expression.cast(common), other.expression.cast(common))

    @property
    def about(self) -> pc.Expression:
        """The column's numbers as floats, the nearest ones."""
        return self.expression.cast(pa.float64(), safe=False)

    def _scalar(self, value: Value) -> pa.Scalar:
        """A value as one of this column. Raises UserError where it cannot be one."""
        if _family_of(value) == self.family == NUMBER and not isinstance(value, str):
            return pa.scalar(_about(value))
        if _family_of(value) == self.family:
            return pa.scalar(value, self.type)
        if self.family in (TIME, CLOCK) and isinstance(value, str):
            try:
                return (_time if self.family == TIME else _clock)(value, self.type)
            except (ValueError, pa.ArrowException):
                pass
        shown = str(value) if isinstance(value, Decimal) else repr(value)
        raise UserError(
            f"where: column '{self.name}' is {self.type}, and {shown} is not"
            + (f"; write {WRITTEN[self.family]}, say" if self.family in WRITTEN else "")
        )

    def check(self, family: str) -> None:
        """Raises UserError unless the column's values are of this family."""
        if self.family != family:
            raise UserError(f"where: column '{self.name}' is {self.type}, not {family}")


class _Meaning:
    """What the rules of `condition.GRAMMAR` mean over some columns: a method for each."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def of(self, tree: Tree[Token]) -> pc.Expression:
        """The expression of a tree that is true or false. Raises UserError."""
        rule: Callable[..., pc.Expression] = getattr(self, tree.data)
        return rule(*tree.children)

    def any_of(self, left: Tree[Token], right: Tree[Token]) -> pc.Expression:
        return self.of(left) | self.of(right)

    def all_of(self, left: Tree[Token], right: Tree[Token]) -> pc.Expression:
        return self.of(left) & self.of(right)

    def opposite(self, _: Token, tree: Tree[Token]) -> pc.Expression:
        return ~self.of(tree)

    def compared(self, left: Tree[Token], sign: Token, right: Tree[Token]) -> pc.Expression:
        if left.data == right.data == "value":
            raise UserError("where: compares two values and no column; a text needs quotes")
        if left.data == "value":
            return self._with_value(right, MIRRORED.get(sign, sign), left)
        if right.data == "value":
            return self._with_value(left, sign, right)
        return self._column(left).with_column(sign, self._column(right))

    def _with_value(self, named: Tree[Token], sign: str, value: Tree[Token]) -> pc.Expression:
        return self._column(named).with_value(sign, _value(value))

    def listed(
        self, named: Tree[Token], opposite: Token | None, *values: Tree[Token]
    ) -> pc.Expression:
        column = self._column(named)
        # One by one, unlike `is_in`, null is neither in a list nor not in it.
        found = (column.with_value("=", _value(value)) for value in values)
        return _or_opposite(reduce(operator.or_, found), opposite)

    def null(self, named: Tree[Token], opposite: Token | None) -> pc.Expression:
        return _or_opposite(self._column(named).expression.is_null(), opposite)

    def like(self, named: Tree[Token], opposite: Token | None, pattern: Token) -> pc.Expression:
        column = self._column(named)
        column.check(TEXT)
        found = pc.match_like(column.expression, value_of(pattern))
        return _or_opposite(found, opposite)

    def called(self, function: Token, named: Tree[Token], text: Token) -> pc.Expression:
        column = self._column(named)
        column.check(TEXT)
        return FUNCTIONS[function.lower()](column.expression, value_of(text))

    def truth(self, named: Tree[Token]) -> pc.Expression:
        column = self._column(named)
        column.check(TRUTH)
        return column.expression

    def _column(self, tree: Tree[Token]) -> _Column:
        return _Column.of(_name(tree), self._schema)


def _name(tree: Tree[Token]) -> str:
    (token,) = tree.children
    return name_of(cast("Token", token))


def _value(tree: Tree[Token]) -> Value:
    (token,) = tree.children
    return value_of(cast("Token", token))


def _or_opposite(expression: pc.Expression, opposite: Token | None) -> pc.Expression:
    return expression if opposite is None else ~expression


def _path_of(name: str, schema: pa.Schema) -> list[str]:
    """A column, and the fields in it that a name leads through.

    Raises:
        UserError: There is no such column.
    """
    if name in schema.names:
        return [name]
    first, *fields = name.split(".")
    if first in schema.names and _has(schema.field(first).type, fields):
        return [first, *fields]
    raise UserError(
        f"where: INPUT has no column '{name}'; {suggestion(name, schema.names)}"
        f"its columns are {', '.join(schema.names)}; a text needs quotes: '{name}'"
    )


def _has(type_: pa.DataType, fields: list[str]) -> bool:
    for field in fields:
        if not pa.types.is_struct(type_) or type_.get_field_index(field) < 0:
            return False
        type_ = type_.field(field).type
    return True


def _family(type_: pa.DataType) -> str:
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return NUMBER
    if is_string(type_):
        return TEXT
    if pa.types.is_boolean(type_):
        return TRUTH
    if pa.types.is_time(type_):
        return CLOCK
    return TIME if pa.types.is_date(type_) or pa.types.is_timestamp(type_) else OTHER


def _common(one: _Column, other: _Column) -> pa.DataType | None:
    """The type as which two columns of different types are compared; None if there is none."""
    if one.family != other.family or one.family == OTHER:
        return None
    if one.family == TIME:  # what has no zone is in UTC, a date begins at midnight
        return pa.timestamp(max(map(_unit, (one.type, other.type)), key=UNITS.index), "UTC")
    if one.family != NUMBER:
        return one.type
    are_exact = is_exact(one.type) and is_exact(other.type)
    return common_decimal(one.type, other.type) if are_exact else pa.float64()


def _unit(type_: pa.DataType) -> str:
    return OF_DATES.get(type_) or str(type_.unit)


def _about(value: float | Decimal) -> float:
    """A number as a float, of those beyond all floats the infinite one."""
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _family_of(value: Value) -> str:
    if isinstance(value, bool):
        return TRUTH
    return TEXT if isinstance(value, str) else NUMBER


def _comparable(type_: pa.DataType, family: str) -> pa.DataType:
    """The type as which values of a type are compared."""
    if family == TEXT and not pa.types.is_large_string(type_):
        return pa.string()
    if family == CLOCK:
        return pa.time64("ns")
    if pa.types.is_decimal32(type_) or pa.types.is_decimal64(type_):
        return pa.decimal128(type_.precision, type_.scale)
    return pa.float64() if pa.types.is_float16(type_) else type_


def _time(text: str, type_: pa.DataType) -> pa.Scalar:
    """A time that is written as text, in UTC where it says nothing else. Raises ArrowException."""
    if pa.types.is_timestamp(type_) and type_.tz is not None:
        try:
            return pa.scalar(text).cast(type_)
        except pa.ArrowException:
            return pa.scalar(text).cast(pa.timestamp(type_.unit)).cast(type_)
    return pa.scalar(text).cast(type_)


def _clock(text: str, type_: pa.DataType) -> pa.Scalar:
    """A time of day that is written as text. Raises ValueError.

    Arrow (26) casts no text to one.
    """
    clock = datetime.time.fromisoformat(text)
    if clock.tzinfo is not None:
        raise ValueError(text)
    return pa.scalar(clock, type_)
