"""The tables that travel between the stages: which unit, which position, and a row's payload.

One fixed schema for every job, so that no block's types depend on the rows that happen to be in it.
The payload is pickled (by cloudpickle, so that a task defined in a notebook works) and of the kind
the receiving stage expects; a row that already failed carries its outcome instead and is passed on.
Input columns that no task reads never travel; the commit takes them from the source.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.contract.errors import Fault
from pipeline.contract.record import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.contract.errors import RowError

BLOCK = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("same_as", pa.int64()),
        pa.field("payload", pa.large_binary()),
        pa.field("outcome", pa.string()),
        pa.field("error", pa.string()),
        pa.field("fault", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Item:
    """One row on its way.

    Attributes:
        unit: Id of its unit.
        position: Its place in the unit, from 0.
        same_as: Position of the row it equals, from which it takes everything.
        payload: What the next stage works on; None once the row is settled.
        outcome: Set once the row failed.
        error: The text that says why.
        fault: Not the row's: what makes its unit unreadable, or the run impossible.
    """

    unit: str
    position: int
    same_as: int | None = None
    payload: Any = None
    outcome: Outcome | None = None
    error: str | None = None
    fault: Fault | None = None

    @property
    def is_settled(self) -> bool:
        """Whether no later stage has anything to do for it."""
        return self.payload is None

    def carrying(self, payload: object) -> Item:
        """The same row with its next payload."""
        return Item(self.unit, self.position, payload=payload)

    def failed(self, error: RowError) -> Item:
        """The same row, ended by an error."""
        return Item(self.unit, self.position, outcome=error.outcome, error=str(error))

    def faulty(self, fault: Fault) -> Item:
        """The same row, not computed because of something else."""
        return Item(self.unit, self.position, fault=fault)


def pack(items: list[Item]) -> pa.Table:
    """Items to a block of `BLOCK`."""
    from ray import cloudpickle

    columns = {
        "unit": [item.unit for item in items],
        "position": [item.position for item in items],
        "same_as": [item.same_as for item in items],
        "payload": [None if i.is_settled else cloudpickle.dumps(i.payload) for i in items],
        "outcome": [item.outcome for item in items],
        "error": [item.error for item in items],
        "fault": [item.fault and json.dumps(asdict(item.fault)) for item in items],
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in BLOCK], schema=BLOCK)


def unpack(block: pa.Table) -> Iterator[Item]:
    """A block to its items, one at a time; payloads are read without copying the block."""
    from ray import cloudpickle

    columns = [block.column(name) for name in BLOCK.names]
    for unit, position, same_as, payload, outcome, error, fault in zip(*columns, strict=True):
        yield Item(
            unit.as_py(),
            position.as_py(),
            same_as.as_py(),
            cloudpickle.loads(payload.as_buffer()) if payload.is_valid else None,
            Outcome(outcome.as_py()) if outcome.is_valid else None,
            error.as_py(),
            Fault(**json.loads(fault.as_py())) if fault.is_valid else None,
        )
