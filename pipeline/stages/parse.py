"""Parse: from generations to result columns and an outcome, which go to the journal.

The driver gets a receipt of what was written. If receipts and journal differ, the journal counts.
In the stage's actor many blocks are written at once, as a store may take a second for each; one at
a time is parsed, as a task need not be made for threads.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.contract.errors import Fault, RowError, one_line
from pipeline.contract.reason import reason_of
from pipeline.contract.record import Outcome
from pipeline.contract.redaction import redact
from pipeline.contract.task import Result, Task
from pipeline.output.journal import Journal, entry_schema
from pipeline.profiling.measures import Measures, Stretch
from pipeline.stages.blocks import Item, measures_of, unpack, unseal
from pipeline.stages.exact import check_exact
from pipeline.storage.write_fault import OutputError, writing_to

if TYPE_CHECKING:
    from pipeline.stages.generate import Answered
    from pipeline.stages.poison_rows import PoisonRows

RECEIPT = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),
        pa.field("positions", pa.list_(pa.int64()), nullable=False),
        pa.field("same_as", pa.list_(pa.int64()), nullable=False),
        pa.field("outcomes", pa.list_(pa.string()), nullable=False),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("output_tokens", pa.int64()),
        pa.field("kept", pa.bool_()),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),
        pa.field("error", pa.string()),
        pa.field("model_class", pa.string()),
        pa.field("engine_ready", pa.float64()),
        pa.field("fault", pa.string()),
        pa.field("ends_run", pa.bool_()),
        pa.field("is_users", pa.bool_()),
        pa.field("measures", pa.large_binary()),
    ]
)
"""Which positions of a unit are in the journal now, and for each that of the identical row whose
results it takes, or its outcome where it was computed, the other one being null; the tokens of
these rows' prompts and answers; two of the reasons for which some have no results
(`contract.reason`) and the error of one; the fields of an `EngineReport` (null if no engine
answered); those of a `Fault`, if there was one; and what was measured on the rows
(`profiling.measures`)."""
MOST_REASONS = 2
"""Reasons in a receipt: enough to see that not all rows failed for the same one."""

UNTYPED = ("position", "prompt_tokens", "output_tokens")
"""What a row has in the journal whose result has a wrong type."""

NO_TURNS = contextlib.nullcontext()

Entry = Mapping[str, Any]


class Parse:
    """The stage's actor; many threads call it at once.

    Args:
        task: What turns generations into result columns.
        journal: Where the rows are written.
        poison_rows: Where isolated rows are marked; None if rows are not isolated.
    """

    def __init__(self, task: Task, journal: Journal, poison_rows: PoisonRows | None = None) -> None:
        self._task = task
        self._journal = journal
        self._poison_rows = poison_rows
        self._turn = threading.Lock()

    def __call__(self, sealed: pa.Table) -> Iterator[pa.Table]:
        """Write sealed blocks to the journal; see `parse_block`."""
        for block in unseal(sealed):
            yield from parse_block(block, self._task, self._journal, self._poison_rows, self._turn)


def parse_block(
    block: pa.Table,
    task: Task,
    journal: Journal,
    poison_rows: PoisonRows | None = None,
    turn: contextlib.AbstractContextManager[object] = NO_TURNS,
) -> Iterator[pa.Table]:
    """Write a block's rows to the journal.

    Args:
        block: Its payloads are `generate.Answered`.
        task: What turns generations into result columns.
        journal: Where the rows are written.
        poison_rows: Where isolated rows are marked; None if rows are not isolated.
        turn: Held while rows are parsed.

    Yields:
        A receipt, a table of one row of `RECEIPT`, for each unit in the block.

    Raises:
        OSError: The journal cannot be written for now; the driver runs the rows again.
    """
    with turn:  # a stretch begins after the wait for it, which is no work
        parsing = Stretch("parse", measures_of(block))
        items = sorted(unpack(block), key=lambda item: (item.unit, item.position))
        measures = parsing.finished(0)
    for unit, group in groupby(items, key=lambda item: item.unit):
        rows = list(group)
        fault = next((item.fault for item in rows if item.fault is not None), None)
        try:
            with turn:
                parsing = Stretch("parse", measures)
                entries, table = _entries(rows, task, poison_rows)
                measures = parsing.finished(len(rows))
            writing = Stretch("journal", measures)
            _write(journal, unit, table)
            measures = writing.finished(len(rows))
        except OutputError as error:
            entries, fault = [], Fault(ends_run=True, message=str(error))
        yield _receipt(unit, rows, entries, fault, measures)
        measures = Measures()


def _entries(
    rows: list[Item], task: Task, poison_rows: PoisonRows | None
) -> tuple[list[Entry], pa.Table]:
    """Of the rows of a unit, those that are done."""
    done = [_alone(item, task, poison_rows) for item in rows if item.fault is None]
    return _fitting(done, task.result_schema)


def _write(journal: Journal, unit: str, table: pa.Table) -> None:
    if table.num_rows:
        with writing_to(journal.output):
            journal.append(unit, table)


def _receipt(
    unit: str, rows: list[Item], entries: list[Entry], fault: Fault | None, measures: Measures
) -> pa.Table:
    reports = (item.payload.engine for item in rows if item.payload is not None)
    report = next((report for report in reports if report is not None), None)
    failed = [e for e in entries if "outcome" in e and not Outcome(e["outcome"]).has_results]
    reasons = {reason_of(entry["outcome"], entry["error"]) for entry in failed}
    receipt = {
        "unit": unit,
        "positions": [entry["position"] for entry in entries],
        "same_as": [entry.get("same_as") for entry in entries],
        "outcomes": [entry.get("outcome") for entry in entries],
        "prompt_tokens": sum(entry.get("prompt_tokens", 0) for entry in entries),
        "output_tokens": sum(entry.get("output_tokens", 0) for entry in entries),
        "kept": bool(entries) and all(e.get("outcome") == Outcome.KEPT for e in entries),
        "reasons": sorted(reasons)[:MOST_REASONS],
        "error": (failed[-1]["error"] or str(failed[-1]["outcome"])) if failed else None,
        "model_class": report and report.model_class,
        "engine_ready": report and report.ready,
        "fault": fault and redact(fault.message),
        "ends_run": fault and fault.ends_run,
        "is_users": fault and fault.is_users,
        "measures": measures.packed(),
    }
    return pa.Table.from_pylist([receipt], schema=RECEIPT)


def _alone(item: Item, task: Task, poison_rows: PoisonRows | None) -> Entry:
    if poison_rows is None:
        return _entry(item, task)
    with poison_rows.isolated("parse", item.unit, item.position):
        (entry,), _ = _fitting([_entry(item, task)], task.result_schema)
        return entry


def _fitting(entries: list[Entry], results: pa.Schema) -> tuple[list[Entry], pa.Table]:
    """The entries, failed where a value does not fit its column, and their table in the journal.

    Each is looked at only if some have.
    """
    schema = entry_schema(results)
    try:
        table = pa.Table.from_pylist(entries, schema=schema)
        check_exact(entries, table.select(results.names))
        return entries, table
    except Exception as error:
        if len(entries) > 1:
            entries = [one for entry in entries for one in _fitting([entry], results)[0]]
        else:
            (entry,) = entries
            fault = {"outcome": Outcome.ENGINE_ERROR, "error": f"parse: {one_line(error)}"}
            entries = [{name: entry[name] for name in UNTYPED if name in entry} | fault]
        return entries, pa.Table.from_pylist(entries, schema=schema)


def _entry(item: Item, task: Task) -> Entry:
    """A row as the journal has it, see `journal.entry_schema`."""
    if item.same_as is not None:
        return {"position": item.position, "same_as": item.same_as}
    if item.outcome is not None:
        return {"position": item.position, "outcome": item.outcome, "error": item.error}
    answered: Answered = item.payload
    result = _parsed(answered, task)
    return {
        "position": item.position,
        **(result.columns if result.outcome.has_results or result.partial else {}),
        "outcome": result.outcome,
        "error": result.error,
        "prompt_tokens": sum(answer.prompt_tokens for answer in answered.generations),
        "output_tokens": sum(answer.output_tokens for answer in answered.generations),
    }


def _parsed(answered: Answered, task: Task) -> Result:
    """The task's result. If the task fails, the row fails."""
    try:
        result = task.result(answered.state, answered.generations)
        unknown = result.columns.keys() - {*task.result_schema.names}
        if unknown:
            raise KeyError(f"{task.name} has no result column {', '.join(sorted(unknown))}")
        error_text = None if result.error is None else redact(str(result.error))
        outcome = Outcome(result.outcome)
        return replace(result, columns=dict(result.columns), outcome=outcome, error=error_text)
    except RowError as error:
        return Result(outcome=error.outcome, error=str(error))
    except (Exception, SystemExit) as error:  # the task did not expect this answer
        return Result(outcome=Outcome.ENGINE_ERROR, error=f"parse: {one_line(error)}")
