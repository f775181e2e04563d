from __future__ import annotations

import pyarrow as pa
import pytest

from pipeline.sources.selection import are_missing

INVALID = pa.Array.from_buffers(
    pa.string(),
    3,
    [None, pa.array([0, 1, 2, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff ")],
)


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        (pa.array(["a", None, "", " \t\n\u00a0", " b "]), [False, True, True, True, False]),
        (pa.array(["a", " ", None], pa.large_string()), [False, True, True]),
        (pa.array(["a", " ", None, "a"]).dictionary_encode(), [False, True, True, False]),
        (pa.array([["a"], [], None, [None]]), [False, True, True, False]),
        (pa.array([b"", b" ", None]), [True, False, True]),
        (pa.array([0, None]), [False, True]),
        (pa.array([{"a": None}, None]), [False, True]),
        (pa.nulls(2), [True, True]),
        (INVALID, [False, True, True]),
    ],
)
def test_null_blank_and_empty_values_are_missing(values: pa.Array, missing: list[bool]) -> None:
    assert are_missing(pa.chunked_array([values])).tolist() == missing
    assert are_missing(pa.chunked_array([values.slice(0, 1), values.slice(1)])).tolist() == missing
