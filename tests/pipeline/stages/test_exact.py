"""What a task gave is in its columns as it was, or its row fails."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.stages.exact import check_exact

PAIR = pa.struct([("n", pa.int8()), ("word", pa.string())])


def checked(type_: pa.DataType, *values: object) -> pa.Table:
    rows = [{"x": value} for value in values]
    table = pa.Table.from_pylist(rows, schema=pa.schema([("x", type_)]))
    check_exact(rows, table)
    return table


@pytest.mark.parametrize(
    ("type_", "value", "said"),
    [
        (pa.int64(), 1.5, "'x' is 1.5, which is no int64"),
        (pa.uint8(), Decimal("1.5"), "'x' is 1.5, which is no uint8"),
        (pa.int32(), np.float32(1.5), "'x' is 1.5"),
        (pa.list_(pa.int64()), [1, 2.5], "'x' is 2.5"),
        (pa.list_(pa.int64()), np.array([1.5]), "'x' is 1.5"),
        (pa.list_(pa.list_(PAIR)), [[{"n": 0.5}]], "'x.n' is 0.5"),
        (pa.dictionary(pa.int32(), pa.int64()), 0.25, "'x' is 0.25"),
        (pa.map_(pa.string(), pa.int64()), {"a": 1.5}, "'x' is 1.5"),
        (pa.map_(pa.string(), pa.int64()), [("a", 1.5)], "'x' is 1.5"),
        (pa.map_(pa.int64(), pa.string()), {1.5: "a"}, "'x' is 1.5"),
        (pa.list_view(pa.int64()), [1.5], "'x' is 1.5"),
        (PAIR, {"n": 1, "wrod": "a"}, "'x' has no field wrod"),
    ],
)
def test_what_arrow_would_change_is_refused(type_: pa.DataType, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked(type_, None, value)


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (pa.int64(), 2**62),
        (pa.int64(), 3.0),
        (pa.int8(), np.int64(7)),
        (pa.float32(), 0.1),
        (pa.list_(pa.int64(), 2), (1, 2.0)),
        (pa.list_(pa.int64()), np.array([1, 2])),
        (pa.list_(pa.string()), ["a", None]),
        (pa.map_(pa.string(), pa.int64()), {"a": 1, "b": None}),
        (PAIR, {"word": "a"}),
        (PAIR, [("n", 1), ("word", "a")]),
        (pa.dictionary(pa.int32(), pa.string()), "a"),
    ],
)
def test_what_fits_is_stored(type_: pa.DataType, value: Any) -> None:
    assert checked(type_, value, None)["x"].null_count == 1
