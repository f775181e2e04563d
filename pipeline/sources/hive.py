"""Hive partitions: columns whose values stand in the path, as in `lang=fr/year=2024/x.parquet`.

Decides which such columns there are and of which type: int64 where every value seen when the input
was first opened is an integer, else string. `__HIVE_DEFAULT_PARTITION__` is null; other values are
URL-unquoted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable

NULL = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"-?\d{1,18}")


def partition_values(path: str) -> dict[str, str | None]:
    """The keys and values in the folders of a path below the root, outermost first."""
    pairs = (folder.partition("=") for folder in path.split("/")[:-1])
    return {
        unquote(key): None if value == NULL else unquote(value)
        for key, is_pair, value in pairs
        if is_pair and key
    }


def partition_fields(paths: Iterable[str]) -> list[pa.Field]:
    """The columns that these paths give."""
    values: dict[str, set[str]] = {}
    for path in paths:
        for key, value in partition_values(path).items():
            values.setdefault(key, set()).update([] if value is None else [value])
    return [pa.field(key, _type_of(seen)) for key, seen in values.items()]


def partition_value(value: str | None, type_: pa.DataType) -> int | str | None:
    """A value as a column of this type holds it. Raises ValueError if it does not fit."""
    if value is None or pa.types.is_string(type_):
        return value
    if not _INTEGER.fullmatch(value):
        raise ValueError(value)
    return int(value)


def _type_of(values: set[str]) -> pa.DataType:
    is_integer = values and all(_INTEGER.fullmatch(value) for value in values)
    return pa.int64() if is_integer else pa.string()
