"""Parse: generations to typed columns and an outcome, into the journal; a receipt to the driver.

The journal is the truth; a receipt only tells the driver what to look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.contract.errors import RowError, one_line
from pipeline.contract.record import Outcome
from pipeline.contract.task import Result, Task
from pipeline.output.journal import Journal, entry_schema
from pipeline.stages.blocks import Item, unpack

if TYPE_CHECKING:
    from pipeline.stages.generate import Answered

RECEIPT = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),
        pa.field("positions", pa.list_(pa.int64()), nullable=False),
        pa.field("failed", pa.int64(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("model_class", pa.string()),
        pa.field("engine_ready", pa.float64()),
        pa.field("fault", pa.string()),
        pa.field("ends_run", pa.bool_()),
        pa.field("is_users", pa.bool_()),
    ]
)
"""Which rows of which unit are in the journal now, how many of them have no results and the error
of one of those, the report of the engine that answered them (null where none of them came so far),
and what is wrong beyond a row, see `errors.Fault`."""

Entry = Mapping[str, Any]


def parse_block(block: pa.Table, task: Task, journal: Journal) -> Iterator[pa.Table]:
    """Journal a block's rows and yield one receipt for each unit in it."""
    items = sorted(unpack(block), key=lambda item: (item.unit, item.position))
    for unit, group in groupby(items, key=lambda item: item.unit):
        rows = list(group)
        done = [item for item in rows if item.fault is None]
        entries = [_entry(item, task) for item in done]
        if entries:
            schema = entry_schema(task.result_schema)
            journal.append(unit, pa.Table.from_pylist(entries, schema=schema))
        yield _receipt(unit, rows, entries)


def _receipt(unit: str, rows: list[Item], entries: list[Entry]) -> pa.Table:
    reports = (item.payload.engine for item in rows if item.payload is not None)
    report = next((report for report in reports if report is not None), None)
    failed = [entry for entry in entries if _has_failed(entry)]
    fault = next((item.fault for item in rows if item.fault is not None), None)
    receipt = {
        "unit": unit,
        "positions": [entry["position"] for entry in entries],
        "failed": len(failed),
        "error": failed[0]["error"] if failed else None,
        "model_class": report and report.model_class,
        "engine_ready": report and report.ready,
        "fault": fault and fault.message,
        "ends_run": fault and fault.ends_run,
        "is_users": fault and fault.is_users,
    }
    return pa.Table.from_pylist([receipt], schema=RECEIPT)


def _has_failed(entry: Entry) -> bool:
    return "outcome" in entry and not Outcome(entry["outcome"]).has_results


def _entry(item: Item, task: Task) -> Entry:
    """One row of the journal."""
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
    """The task's result; a fault of its own, or columns of a wrong type, end the row alone."""
    try:
        result = task.result(answered.state, answered.generations)
        unknown = result.columns.keys() - {*task.result_schema.names}
        if unknown:
            raise KeyError(f"{task.name} has no result column {', '.join(sorted(unknown))}")
        pa.Table.from_pylist([dict(result.columns)], schema=task.result_schema)
        return result
    except RowError as error:
        return Result(outcome=error.outcome, error=str(error))
    except Exception as error:  # an answer of unforeseen form is the row's fault, not the run's
        return Result(outcome=Outcome.ENGINE_ERROR, error=f"parse: {one_line(error)}")
