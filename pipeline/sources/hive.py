"""Decides the columns of Hive partitions, whose values are in paths: `lang=fr/year=2024/x.parquet`.

Their type is int64 if every value is an integer when the input is opened first, else string.
`__HIVE_DEFAULT_PARTITION__` is null; other values are URL-unquoted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa

from pipeline.sources.columns import is_string

if TYPE_CHECKING:
    from collections.abc import Iterable

NULL = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"-?\d{1,18}")


def partition_values(path: str) -> dict[str, str | None]:
    """Keys and values of a path's folders below the root, outermost first."""
    pairs = (folder.partition("=") for folder in path.split("/")[:-1])
    return {
        unquote(key): None if value == NULL else unquote(value)
        for key, is_pair, value in pairs
        if is_pair and key
    }


def partition_fields(paths: Iterable[str]) -> list[pa.Field]:
    """The columns of these paths."""
    values: dict[str, set[str]] = {}
    for path in paths:
        for key, value in partition_values(path).items():
            values.setdefault(key, set()).update([] if value is None else [value])
    fields = []
    for key, seen in values.items():
        is_integer = seen and all(_INTEGER.fullmatch(value) for value in seen)
        fields.append(pa.field(key, pa.int64() if is_integer else pa.string()))
    return fields


def partition_value(value: str | None, type_: pa.DataType) -> int | str | None:
    """A path's value in a column of this type. Raises ValueError if it does not fit."""
    if value is None or is_string(type_):
        return value
    if not _INTEGER.fullmatch(value):
        raise ValueError(value)
    return int(value)
