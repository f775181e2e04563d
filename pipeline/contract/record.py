"""Decides what an output row looks like: its outcome, its key and the columns every job has.

Which result columns a job adds is the task's to say, which input columns pass through the source's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import pyarrow as pa


class Outcome(StrEnum):
    """What became of one row, from best to worst.

    `ok` and `truncated` rows have results, the others an `error`. A row with several results has
    the worst of their outcomes and keeps the good results.
    """

    OK = "ok"
    TRUNCATED = "truncated"
    DECODE_ERROR = "decode_error"
    MISSING_INPUT = "missing_input"
    TOO_LONG = "too_long"
    WRONG_LANGUAGE = "wrong_language"
    REPETITION = "repetition"
    REFUSED = "refused"
    ENGINE_ERROR = "engine_error"

    @property
    def has_results(self) -> bool:
        """Whether a row with this outcome has its result columns filled."""
        return self in (Outcome.OK, Outcome.TRUNCATED)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of several results' outcomes, by the order of `Outcome`; `ok` of none."""
    order = [*Outcome]
    return max(outcomes, key=order.index, default=Outcome.OK)


def combined_error(errors: Mapping[str, str | None]) -> str | None:
    """The errors of a row's several results in one text; an error that all share is given once.

    Args:
        errors: By the name of the result; None for a good one.
    """
    failed = {name: error for name, error in errors.items() if error is not None}
    if len(failed) == len(errors) and len({*failed.values()}) == 1:
        return next(iter(failed.values()))
    return "; ".join(f"{name}: {error}" for name, error in failed.items()) or None


ADDED = pa.schema(
    [
        pa.field("row_key", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("output_tokens", pa.int32()),
    ]
)
"""The columns that the pipeline adds to every output row."""


def row_key(unit_id: str, position: int) -> str:
    """The key of the row at `position` (from 0) in a unit.

    It is unique, and the same in every run that cuts the input into the same units.
    """
    return f"{unit_id}-{position:08d}"


def clashes(passthrough: pa.Schema, results: pa.Schema) -> list[str]:
    """Input columns named like a result column or one of `ADDED`, in input order."""
    ours = {*ADDED.names, *results.names}
    return [name for name in passthrough.names if name in ours]


_OF_ANSWERS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_struct,
)


def answer_column(results: pa.Schema) -> str | None:
    """The column that is a row's answer, where a format or a sidecar has a place for one.

    It is the first with text, a list or an object. One with a `..._confidence` beside it tells
    something about the input, such as its language.

    Args:
        results: The task's result columns.
    """
    for field in results:
        is_about_input = f"{field.name}_confidence" in results.names
        if not is_about_input and any(is_of(field.type) for is_of in _OF_ANSWERS):
            return str(field.name)
    return None


def output_schema(passthrough: pa.Schema, results: pa.Schema) -> pa.Schema:
    """Columns of an output file: the input's, the task's results, then `ADDED`."""
    assert not clashes(passthrough, results), "planning refuses clashing names"
    return pa.schema([*passthrough, *results, *ADDED], metadata=passthrough.metadata)
