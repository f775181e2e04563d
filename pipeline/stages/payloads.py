"""Payloads: how what a row carries becomes bytes of a block, with each pixel copied once.

It is pickled with cloudpickle where that is needed, so that a task defined in a notebook works; a
pickle of what can be imported everywhere takes a third of the time. Large arrays, the pixels of
images, lie behind the pickle as they are (pickle's buffers out of band): they are copied from
the renderer's array into the block, and read where the block lies, in Ray's shared memory. A copy
costs more than it seems, as each one touches memory that is new to the process.

    how many follow, and their sizes (8 bytes each) | pickle | array | ...     each at 64 bytes
"""

from __future__ import annotations

import pickle
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LARGE = 2**16
"""Bytes from which an array lies outside of the pickle."""
ALIGNMENT = 64
"""Parts begin at multiples of so many bytes."""
HEAD = struct.Struct("<2Q")
"""How many parts follow, and the size of the first."""


def dumped(payload: object) -> list[memoryview]:
    """The parts of a payload: header, pickle, and the large arrays in it, which are not copied.

    Raises:
        Exception: It does not pickle; of any class, as what a task keeps decides.
    """
    arrays: list[memoryview] = []

    def stays_inside(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes >= LARGE:
            arrays.append(raw)
        return raw.nbytes < LARGE

    body = _importable(payload, stays_inside)
    if body is None:
        from ray import cloudpickle

        arrays.clear()
        body = cloudpickle.dumps(payload, protocol=5, buffer_callback=stays_inside)
    parts = [memoryview(body), *arrays]
    header = struct.pack(f"<{1 + len(parts)}Q", len(parts), *(part.nbytes for part in parts))
    return [memoryview(header), *parts]


def _importable(
    payload: object, stays_inside: Callable[[pickle.PickleBuffer], bool]
) -> bytes | None:
    """A pickle that every process can read; None where it may need what only this one has."""
    try:
        body = pickle.dumps(payload, protocol=5, buffer_callback=stays_inside)
    except Exception:  # a class of a function, say; cloudpickle has the last word
        return None
    return None if b"__main__" in body else body


def joined(payloads: Sequence[list[memoryview] | None]) -> pa.Array:
    """A column of payloads (large_binary), each given by its parts; null where it is None."""
    places = [_places([part.nbytes for part in parts or ()]) for parts in payloads]
    offsets = np.cumsum([0, *(own[-1] for own in places)], dtype=np.int64)
    body = pa.allocate_buffer(int(offsets[-1]))
    view = memoryview(body).cast("B")
    for begin, own, parts in zip(offsets.tolist(), places, payloads, strict=False):
        for place, part in zip(own, parts or (), strict=False):
            view[begin + place : begin + place + part.nbytes] = part
    is_there = pa.array([parts is not None for parts in payloads], pa.bool_()).buffers()[1]
    buffers = [is_there, pa.py_buffer(offsets), body]
    return pa.Array.from_buffers(pa.large_binary(), len(payloads), buffers)


def bodies(column: pa.ChunkedArray) -> Iterator[pa.Buffer | None]:
    """The values of a column of large_binary where they lie; None for null.

    pyarrow's own scalars of binary columns are copies.
    """
    for chunk in filter(len, column.chunks):
        _, places, body = chunk.buffers()
        offsets = np.frombuffer(places, np.int64)[chunk.offset :][: len(chunk) + 1].tolist()
        is_there = chunk.is_valid().to_pylist()
        for number, (begin, end) in enumerate(pairwise(offsets)):
            yield body.slice(begin, end - begin) if is_there[number] else None


def loaded(payload: pa.Buffer) -> Any:
    """The payload of a row; its large arrays are views of the block, which cannot be written to."""
    view = memoryview(payload).cast("B").toreadonly()
    count, size = HEAD.unpack_from(view)
    if count == 1:  # as most have, without arrays
        return pickle.loads(view[ALIGNMENT : ALIGNMENT + size])  # noqa: S301  from our own processes
    sizes = struct.unpack_from(f"<{1 + count}Q", view)[1:]
    places = _places([struct.calcsize(f"<{1 + count}Q"), *sizes])[1:]
    body, *arrays = (view[at : at + size] for at, size in zip(places, sizes, strict=False))
    return pickle.loads(body, buffers=arrays)  # noqa: S301


def _places(sizes: Sequence[int]) -> list[int]:
    """Where parts of these sizes begin, and where the last one ends."""
    places = [0]
    for size in sizes:
        places.append(-(-(places[-1] + size) // ALIGNMENT) * ALIGNMENT)
    return places
