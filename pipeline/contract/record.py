"""Decides what an output row looks like: its outcome, its key and the columns every job has.

Which result columns a job adds is the task's to say, which input columns pass through the source's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import pyarrow as pa


class Outcome(StrEnum):
    """What became of one row, from best to worst.

    `ok` and `truncated` rows have results, the others an `error`; a `kept` row was not computed, as
    it has a value already (`RunConfig.missing`). A row with several results has the worst of their
    outcomes and keeps the good results.
    """

    OK = "ok"
    KEPT = "kept"
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
        """Whether a row with this outcome is no failure: it has results, or needed none."""
        return self in (Outcome.OK, Outcome.KEPT, Outcome.TRUNCATED)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of several results' outcomes, by the order of `Outcome`; `ok` of none."""
    order = [*Outcome]
    return max(outcomes, key=order.index, default=Outcome.OK)


def counted(found: Mapping[str, int]) -> str:
    """Rows by outcome, from the best to the worst: `1,190 ok, 8 truncated`."""
    order = [*Outcome]
    named = sorted(found.items(), key=lambda one: order.index(Outcome(one[0])))
    return ", ".join(f"{count:,} {outcome}" for outcome, count in named if count)


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
"""The columns that the pipeline adds to every output row; `RunSettings.prefix` may stand before
their names and those of the results."""
OF_A_RUN = ("position", "same_as", *ADDED.names)
"""Columns of a run's parts and of its journal; no result is called so."""


def row_key(unit_id: str, position: int) -> str:
    """The key of the row at `position` (from 0) in a unit.

    It is unique, and the same in every run that cuts the input into the same units.
    """
    return f"{unit_id}-{position:08d}"


def merged_column(results: Iterable[str], missing: str | None, prefix: str = "") -> str | None:
    """The input column that becomes one with a result column; None if there is none.

    That is the one whose missing values are computed, where a result is called like it.

    Args:
        results: The names of the task's result columns.
        missing: `RunConfig.missing`.
        prefix: What the names of all added columns begin with.
    """
    return missing if missing in {f"{prefix}{name}" for name in results} else None


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


def clashes(
    passthrough: Iterable[str],
    results: Iterable[str],
    prefix: str = "",
    merged: str | None = None,
) -> list[str]:
    """Input columns called like one that the run adds, in input order.

    Args:
        passthrough: The names of the input columns that are copied to the output.
        results: The names of the task's result columns.
        prefix: What the names of all added columns begin with.
        merged: See `merged_column`; it is none of them.
    """
    ours = {f"{prefix}{name}" for name in (*ADDED.names, *results)} - {merged}
    return [name for name in passthrough if name in ours]


def clash_fault(taken: Sequence[str], renaming_option: str | None) -> str:
    """What an input has that clashes, and how to avoid it: the end of a message.

    Args:
        taken: The clashing names.
        renaming_option: The task's option that names its result, as in Python; None if it has none.
    """
    names = ", ".join(f"'{name}'" for name in taken)
    columns = f"a column {names}" if len(taken) == 1 else f"the columns {names}"
    flag = renaming_option and f"--{renaming_option.replace('_', '-')}"
    is_a_result = not {*taken} & {*ADDED.names}
    other = f", or {flag} NAME, which renames the result alone" if flag and is_a_result else ""
    return (
        f"{columns}, which the run adds itself; give --prefix gemma_ to put that before the names "
        f"of all added columns{other}"
    )


def output_schema(
    passthrough: pa.Schema, results: pa.Schema, prefix: str = "", merged: str | None = None
) -> pa.Schema:
    """Columns of an output file: the input's, the task's results, then `ADDED`.

    Args:
        passthrough: The input's columns.
        results: The task's result columns.
        prefix: What the names of the last two begin with.
        merged: See `merged_column`; it is there once, as a result.
    """
    taken = clashes(passthrough.names, results.names, prefix, merged)
    assert not taken, "planning refuses clashing names"
    own = [field for field in passthrough if field.name != merged]
    added = [field.with_name(f"{prefix}{field.name}") for field in (*results, *ADDED)]
    return pa.schema([*own, *added], metadata=passthrough.metadata)
