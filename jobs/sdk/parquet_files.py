"""Writes rows that are in memory, or in a Ray dataset, as the parquet files that a run reads.

They are in Ray's memory (`pipeline.storage.ray_memory`), where all machines of a cluster can read
them. The same rows give the same files, by name and by content: so a run knows them again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.sdk.memory import image_bytes
from pipeline import UserError
from pipeline.sources.columns import holds_binary

if TYPE_CHECKING:
    from pipeline.storage.location import Location

FILE_ROWS = 10_000
FILE_ROWS_OF_BINARY = 500
"""Rows of a file that has binary columns: images, say."""
ROW_GROUP = 512
MOST_WRITERS = 4
"""Most files of a Ray dataset that are written at once."""


def write_rows(table: pa.Table, folder: Location) -> Location:
    """Write rows to parquet files; the same rows give the same files, by name and by content.

    Args:
        table: The rows.
        folder: An empty folder in Ray's memory.

    Returns:
        The folder below it that the files are in.
    """
    rows = _file_rows(table.schema)
    for number, start in enumerate(range(0, table.num_rows, rows)):
        _write_file(table.slice(start, rows), folder, number)
    return _named_by_content(folder)


def write_ray_dataset(
    dataset: Any, folder: Location, prepare: Callable[[pa.Table], pa.Table]
) -> Location:
    """Write a Ray dataset as `write_rows` does, its rows in order. Tensors are taken as images.

    Args:
        dataset: The rows.
        folder: An empty folder in Ray's memory.
        prepare: Checks and changes the rows of a file, in another process.

    Returns:
        The folder below it that the files are in.

    Raises:
        UserError: `prepare` raised it.
    """
    schema = dataset.schema()
    types = dict(zip(schema.names, schema.types, strict=True))
    tensors = [name for name, kind in types.items() if "Tensor" in type(kind).__name__]
    if tensors:
        dataset = dataset.map_batches(
            _tensors_to_png, batch_format="numpy", fn_kwargs={"names": tensors}
        )
    kept = {name: kind for name, kind in types.items() if isinstance(kind, pa.DataType)}
    known = pa.schema([item for item in kept.items() if item[0] not in tensors])
    with _in_order(dataset):
        spans = _spans(dataset, FILE_ROWS_OF_BINARY if tensors else _file_rows(known))
        _write_spans(spans, folder, known, prepare)
    return _named_by_content(folder)


def _file_rows(schema: pa.Schema) -> int:
    has_images = any(holds_binary(field.type) for field in schema)
    return FILE_ROWS_OF_BINARY if has_images else FILE_ROWS


def _write_file(table: pa.Table, folder: Location, number: int) -> None:
    file, stream = folder / f"{number:06}.parquet", pa.BufferOutputStream()
    pq.write_table(in_one_piece(table), stream, row_group_size=ROW_GROUP)
    file.fs.pipe_file(file.path, stream.getvalue().to_pybytes())


def in_one_piece(table: pa.Table) -> pa.Table:
    """The same rows however they were cut: a chunk for each column, or one for each row.

    The latter where a chunk cannot hold them: of images in structs, over 2 GiB.
    """
    try:
        return table.combine_chunks()
    except pa.ArrowInvalid:
        return pa.concat_tables(table.slice(row, 1) for row in range(table.num_rows))


def _named_by_content(folder: Location) -> Location:
    """Name files by what is in all of them, so that no others are ever taken for them."""
    tags = "".join(file.stamp for file in folder.tree())
    name = hashlib.blake2b(tags.encode(), digest_size=8).hexdigest()
    folder.fs.rename(f"{folder.path}/", f"{folder.path}/{name}/{name}-")
    return folder / name


Span = tuple[Any, int, int]
"""Reference to a block of a Ray dataset, and a range of its rows."""


def _spans(dataset: Any, rows: int) -> Iterator[list[Span]]:
    """Cut a dataset into pieces of so many rows, however its blocks are cut."""
    held: list[Span] = []
    room = rows
    for bundle in dataset.iter_internal_ref_bundles():
        for entry, part in zip(bundle.blocks, bundle.slices, strict=True):
            start = part.start_offset if part else 0
            end = part.end_offset if part else entry.metadata.num_rows
            while start < end:
                stop = min(end, start + room)
                held.append((entry.ref, start, stop))
                room -= stop - start
                start = stop
                if not room:
                    yield held
                    held, room = [], rows
    if held:
        yield held


def _write_spans(
    spans: Iterable[list[Span]],
    folder: Location,
    known: pa.Schema,
    prepare: Callable[[pa.Table], pa.Table],
) -> None:
    """Write files in other processes, some at a time. Raises UserError."""
    import ray

    write = ray.remote(num_cpus=0)(_write_blocks)
    waiting: deque[Any] = deque()
    try:
        for number, file in enumerate(spans):
            if len(waiting) == MOST_WRITERS:
                ray.get(waiting.popleft())
            ranges = [(start, stop) for _, start, stop in file]
            blocks = [block for block, _, _ in file]
            waiting.append(write.remote(folder, number, known, prepare, ranges, *blocks))
        ray.get([*waiting])
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, UserError) else error from None


def _write_blocks(
    folder: Location,
    number: int,
    known: pa.Schema,
    prepare: Callable[[pa.Table], pa.Table],
    ranges: Sequence[tuple[int, int]],
    *blocks: Any,
) -> None:
    from ray.data.block import BlockAccessor

    tables = [
        BlockAccessor.for_block(block).to_arrow().slice(start, stop - start)
        for block, (start, stop) in zip(blocks, ranges, strict=True)
    ]
    table = pa.concat_tables(tables, promote_options="permissive")
    for place, field in enumerate(table.schema):
        # These rows have nulls only, others have values.
        if pa.types.is_null(field.type) and field.name in known.names:
            kind = known.field(field.name).type
            table = table.set_column(place, field.name, table[place].cast(kind))
    _write_file(prepare(table), folder, number)


@contextlib.contextmanager
def _in_order(dataset: Any) -> Iterator[None]:
    """Make Ray keep the order of the dataset's blocks within the `with` block."""
    options = dataset.context.execution_options
    before, options.preserve_order = options.preserve_order, True
    try:
        yield
    finally:
        options.preserve_order = before


def _tensors_to_png(batch: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    from PIL import Image

    for name in names:
        batch[name] = [image_bytes(Image.fromarray(array)) for array in batch[name]]
    return batch
