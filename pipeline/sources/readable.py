"""Decides what is shown of a value that Arrow holds and Python cannot: its text.

Parquet may hold text that is not UTF-8, which Arrow does not check, and times that Python has not,
such as the end of the year 9999 in a zone.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipeline.sources.columns import is_string

UNREADABLE = "\ufffd"
"""Stands for a value without any text."""


def readable_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table as Python values, by column."""
    columns = [readable_values(column) for column in table.columns]
    names = table.column_names
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def readable_values(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column as Python's."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return [_value_or_text(value) for value in column]


def _value_or_text(value: pa.Scalar) -> Any:
    try:
        if is_string(value.type):
            body = value.cast(pa.large_binary()).as_py()
            return None if body is None else body.decode(errors="replace")
        return value.as_py()
    except (ValueError, OverflowError):
        pass
    try:
        return value.cast(pa.string()).as_py()
    except (ValueError, pa.ArrowException):
        return UNREADABLE
