"""Decides which values are missing: null, text of nothing but white space, and empty lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.sources.columns import is_binary, is_string

if TYPE_CHECKING:
    import numpy as np


def are_missing(column: pa.ChunkedArray) -> np.ndarray:
    """[rows] bool: which values of a column are missing."""
    is_missing = column.is_null()
    lengths = _lengths(column)
    if lengths is not None:
        is_missing = pc.or_(is_missing, pc.fill_null(pc.equal(lengths, 0), True))
    found: np.ndarray = is_missing.to_numpy()
    return found


def _lengths(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """How long the values are; None for a type whose values have no length."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    type_ = column.type
    if is_string(type_):
        return pc.binary_length(_stripped(column.cast(pa.large_string())))
    if is_binary(type_):
        return pc.binary_length(column.cast(pa.large_binary()))
    is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_)
    return pc.list_value_length(column) if is_list or pa.types.is_map(type_) else None


def _stripped(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return pc.utf8_trim_whitespace(texts)
    except pa.ArrowInvalid:  # a text that is not UTF-8
        return pc.ascii_trim_whitespace(texts)
