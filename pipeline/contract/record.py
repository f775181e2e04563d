"""What one output row looks like: its outcome, its key and the columns the pipeline adds.

The contract every job and every reader relies on. Which result columns a job adds is the task's to
say, which input columns pass through is the source's.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import pyarrow as pa


class Outcome(StrEnum):
    """What became of one row, from good to bad.

    `ok` and `truncated` rows have results, the others an `error`; where a row has several results,
    the outcome is the worst of theirs, and the good ones are kept.
    """

    OK = "ok"
    TRUNCATED = "truncated"
    DECODE_ERROR = "decode_error"
    MISSING_INPUT = "missing_input"
    TOO_LONG = "too_long"
    WRONG_LANGUAGE = "wrong_language"
    REPETITION = "repetition"
    ENGINE_ERROR = "engine_error"

    @property
    def has_results(self) -> bool:
        """Whether the result columns of such a row are filled."""
        return self in (Outcome.OK, Outcome.TRUNCATED)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of a row with several results: the last of theirs in the order of `Outcome`."""
    order = [*Outcome]
    return max(outcomes, key=order.index, default=Outcome.OK)


ADDED = pa.schema(
    [
        pa.field("row_key", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("output_tokens", pa.int32()),
    ]
)
"""The columns the pipeline itself adds to every output row."""


def row_key(unit_id: str, position: int) -> str:
    """The key of the row at `position` (from 0) of a unit: unique, and the same in every run."""
    return f"{unit_id}-{position:08d}"


def clashes(passthrough: pa.Schema, results: pa.Schema) -> list[str]:
    """Names that both the input and the output side would give to a column, in input order."""
    ours = {*ADDED.names, *results.names}
    return [name for name in passthrough.names if name in ours]


def output_schema(passthrough: pa.Schema, results: pa.Schema) -> pa.Schema:
    """Columns of an output file: the input's, then the task's results, then the pipeline's."""
    assert not clashes(passthrough, results), "planning refuses clashing names"
    return pa.schema([*passthrough, *results, *ADDED], metadata=passthrough.metadata)
