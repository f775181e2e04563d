"""Blocks, the tables that travel between the stages: unit, position and payload of each row.

All jobs have the same schema, so a block's types never depend on its rows. The payload is pickled
(`payloads`); its type is what the next stage expects. A row that failed has its outcome instead and
is passed through. Input columns that the task does not read do not travel; the commit reads them
from the source.

What was measured on a block (`pipeline.profiling`) travels with its first row.

Ray Data (2.60) joins and divides what a stage yields, by rows alone or by bytes alone. A block that
is to stay as it is travels sealed, as one row of another table.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.contract.errors import Fault, RowError, one_line
from pipeline.contract.record import Outcome
from pipeline.profiling.measures import unpacked
from pipeline.profiling.stopwatch import step
from pipeline.stages.payloads import bodies, dumped, joined, loaded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.profiling.measures import Measured, Measures

BLOCK = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("same_as", pa.int64()),
        pa.field("payload", pa.large_binary()),
        pa.field("outcome", pa.string()),
        pa.field("error", pa.string()),
        pa.field("fault", pa.string()),
        pa.field("measures", pa.large_binary()),
    ]
)


SEALED = pa.schema([pa.field("block", pa.large_binary(), nullable=False)])


@dataclass(frozen=True, slots=True)
class Item:
    """One row between two stages.

    Attributes:
        unit: Id of its unit.
        position: Its position in the unit, from 0.
        same_as: Position of an identical row, whose results it takes; None if it is computed.
        payload: What the next stage works on; None once the row is settled.
        outcome: Set if the row failed, or is kept as it is.
        error: Why it failed.
        fault: A failure of its unit or of the run, because of which it was not computed.
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
        """Whether the later stages only pass it through."""
        return self.payload is None

    def carrying(self, payload: object) -> Item:
        """The same row with the payload for the next stage."""
        return Item(self.unit, self.position, payload=payload)

    def failed(self, error: RowError) -> Item:
        """The same row, failed."""
        return Item(self.unit, self.position, outcome=error.outcome, error=str(error))

    def kept(self) -> Item:
        """The same row, which is not computed, as it has a value already."""
        return Item(self.unit, self.position, outcome=Outcome.KEPT)

    def faulty(self, fault: Fault) -> Item:
        """The same row, not computed because of a failure of its unit or of the run."""
        return Item(self.unit, self.position, fault=fault)


def pack(items: list[Item], measured: Measured | None = None) -> pa.Table:
    """Make a block (a table of `BLOCK`) of items. A row fails whose payload does not pickle.

    Args:
        items: The rows.
        measured: Measures their way through the stage, which ends here. It is not asked for a
            block without rows, which carries nothing.
    """
    with step("pack"):
        pickled = [*map(_pickled, items)]
        payloads = joined([parts for _, parts in pickled])
    items = [item for item, _ in pickled]
    size = sum(part.nbytes for _, parts in pickled for part in parts or ())
    carried = [measured.finished(len(items), size).packed()] if measured and items else []
    columns = {
        "unit": [item.unit for item in items],
        "position": [item.position for item in items],
        "same_as": [item.same_as for item in items],
        "outcome": [item.outcome for item in items],
        "error": [item.error for item in items],
        "fault": [item.fault and json.dumps(asdict(item.fault)) for item in items],
        "measures": [*carried, *[None] * (len(items) - len(carried))],
    }
    arrays = [
        payloads if field.name == "payload" else pa.array(columns[field.name], field.type)
        for field in BLOCK
    ]
    return pa.table(arrays, schema=BLOCK)


def _pickled(item: Item) -> tuple[Item, list[memoryview] | None]:
    """The row and its payload's parts. Only the state that a task adds may not pickle."""
    if item.is_settled:
        return item, None
    try:
        return item, dumped(item.payload)
    except Exception as error:
        return item.failed(_state_error(error)), None


def _state_error(error: Exception) -> RowError:
    message = f"Prepared.state: {one_line(error)}"
    return RowError(Outcome.DECODE_ERROR, "render", message)


def seal(block: pa.Table) -> pa.Table:
    """A table of `SEALED` with one row, the block."""
    with step("pack"):  # counts for the next block, as this one is packed
        counted = pa.MockOutputStream()
        _write(block, counted)
        body = pa.allocate_buffer(counted.size())  # a stream that grows takes up to twice as much
        _write(block, pa.FixedSizeBufferWriter(body))
    offsets = pa.array([0, body.size], pa.int64()).buffers()[1]
    column = pa.Array.from_buffers(SEALED.field(0).type, 1, [None, offsets, body])
    return pa.table([column], schema=SEALED)


def _write(block: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, BLOCK) as stream:
        stream.write_table(block)


def unseal(sealed: pa.Table) -> Iterator[pa.Table]:
    """The blocks of a table of `SEALED`, without copying them."""
    for body in bodies(sealed.column("block")):
        yield pa.ipc.open_stream(body).read_all()


def measures_of(block: pa.Table) -> Measures:
    """What was measured on the rows of a block so far."""
    column = block.column("measures")
    if column.null_count == len(column):
        return unpacked(())
    return unpacked(column.drop_null().to_pylist())


def unpack(block: pa.Table) -> Iterator[Item]:
    """Yield the items of a block one by one; large arrays in payloads stay where the block is.

    A row fails whose payload pickled but cannot be read, as an exception of two arguments cannot.

    Raises:
        ImportError: This machine lacks a module, which is no fault of the rows.
    """
    columns = [
        bodies(block.column(name)) if name == "payload" else block.column(name).to_pylist()
        for name in BLOCK.names
        if name != "measures"
    ]
    for values in zip(*columns, strict=True):
        with step("unpack"):
            item = _item(*values)
        yield item


def _item(
    unit: str,
    position: int,
    same_as: int | None,
    payload: pa.Buffer | None,
    outcome: str | None,
    error: str | None,
    fault: str | None,
) -> Item:
    if payload is None:
        return Item(
            unit,
            position,
            same_as,
            outcome=None if outcome is None else Outcome(outcome),
            error=error,
            fault=None if fault is None else Fault(**json.loads(fault)),
        )
    try:
        return Item(unit, position, payload=loaded(payload))
    except (ImportError, MemoryError):
        raise
    except Exception as error_of_state:
        return Item(unit, position).failed(_state_error(error_of_state))
