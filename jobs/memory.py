"""Inputs that are not files: how they become parquet, and how results come back as the same kind.

    a pandas table, an Arrow table, a Hugging Face dataset    the same, with the new columns
    a list of texts, paths, links, bytes or pictures          a list of dicts of the new columns
    a list of dicts                                           the same dicts, with the new columns
    a `ray.data.Dataset`                                      a `ray.data.Dataset`, read lazily

Pictures (PIL) become PNG or TIFF, so that no pixel changes. Only the columns that the job reads are
written, and rows come back in order. No library is imported unless one of its objects is given.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FSSpecHandler, PyFileSystem

from pipeline import UserError
from pipeline.record import ADDED

if TYPE_CHECKING:
    from pipeline.storage import Location

NAME = "rows.parquet"
ROW_GROUP = 512
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """An input in memory.

    Attributes:
        table: Its rows, as Arrow.
        give_back: Makes the result of the new columns, in order.
    """

    table: pa.Table
    give_back: Callable[[pa.Table], Any]


def is_uri(value: object) -> bool:
    """Whether an input names files."""
    return isinstance(value, str | os.PathLike)


def is_ray_dataset(value: object) -> bool:
    """Whether it is a `ray.data.Dataset`."""
    return _module(value).startswith("ray.data")


def rows_of(value: Any, column: str) -> Rows:
    """An input in memory as rows.

    Args:
        value: A table, a dataset or a list; see the module.
        column: What the values of a plain list are: the column that the job reads.

    Raises:
        UserError: It is none of these.
    """
    if isinstance(value, pa.Table):
        return Rows(table=value, give_back=lambda new: _beside(value, new))
    if _module(value).startswith("pandas"):
        return _of_pandas(value)
    if _module(value).startswith("datasets"):
        return _of_hugging_face(value)
    if isinstance(value, Sequence):
        return _of_list(value, column)
    raise UserError(
        f"input: cannot read a {type(value).__name__}; give a path or URI, a pandas or Arrow table,"
        " a Hugging Face or Ray dataset, or a list"
    )


def write_rows(table: pa.Table, columns: Sequence[str], folder: Location) -> str:
    """Write what a job reads to a file in the folder; returns the file's path or URI."""
    missing = [name for name in columns if name not in table.column_names]
    kept = table if missing else table.select([*columns])  # the run tells which columns there are
    folder.fs.makedirs(folder.path, exist_ok=True)
    _write(kept, folder / NAME)
    return str(folder / NAME)


def _write(table: pa.Table, file: Location) -> None:
    with file.fs.open(file.path, "wb") as stream:
        pq.write_table(table, stream, row_group_size=ROW_GROUP)


def new_columns(results: Sequence[str]) -> list[str]:
    """What a job adds to a row that the user sees: its results, the outcome and the error."""
    return [*results, *(name for name in ADDED.names if name != "row_key")]


def write_ray_dataset(dataset: Any, folder: Location) -> None:
    """Write a Ray dataset as parquet, its rows in order; tensors become PNG pictures."""
    tensors = [
        name
        for name, kind in zip(dataset.schema().names, dataset.schema().types, strict=True)
        if "Tensor" in type(kind).__name__
    ]
    if tensors:
        dataset = dataset.map_batches(
            _tensors_to_png, batch_format="numpy", fn_kwargs={"names": tensors}
        )
    with _in_order(dataset):
        dataset.write_parquet(folder.path, filesystem=PyFileSystem(FSSpecHandler(folder.fs)))


@contextlib.contextmanager
def _in_order(dataset: Any) -> Iterator[None]:
    """The dataset keeps the order of its blocks while it is executed within."""
    options = dataset.context.execution_options
    before, options.preserve_order = options.preserve_order, True
    try:
        yield
    finally:
        options.preserve_order = before


def _tensors_to_png(batch: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    from PIL import Image

    for name in names:
        batch[name] = [_bytes_of(Image.fromarray(array)) for array in batch[name]]
    return batch


def _of_pandas(frame: Any) -> Rows:
    plain = {name: [_plain(value) for value in frame[name]] for name in _with_pictures(frame)}
    table = pa.Table.from_pandas(frame.assign(**plain), preserve_index=False)

    def give_back(new: pa.Table) -> Any:
        return frame.join(new.to_pandas().set_index(frame.index))

    return Rows(table=table, give_back=give_back)


def _with_pictures(frame: Any) -> list[str]:
    """Columns that hold PIL pictures."""
    return [
        name
        for name in frame.columns
        if frame[name].dtype == object and any(_is_picture(value) for value in frame[name])
    ]


def _of_hugging_face(dataset: Any) -> Rows:
    if not hasattr(dataset, "num_rows") or not isinstance(dataset.num_rows, int):
        raise UserError("input: give one split of a dataset that is not streamed: ds['train']")
    table = dataset.with_format("arrow")[:]

    def give_back(new: pa.Table) -> Any:
        import datasets  # type: ignore[import-not-found]

        return datasets.concatenate_datasets([dataset, type(dataset)(new)], axis=1)

    return Rows(table=table, give_back=give_back)


def _of_list(values: Sequence[Any], column: str) -> Rows:
    if values and all(isinstance(value, dict) for value in values):
        plain = [{name: _plain(item) for name, item in row.items()} for row in values]
        return Rows(
            table=pa.Table.from_pylist(plain),
            give_back=lambda new: [
                {**row, **added} for row, added in zip(values, new.to_pylist(), strict=True)
            ],
        )
    cells = [_plain(value) for value in values]
    return Rows(table=_one_column(column, cells), give_back=lambda new: new.to_pylist())


def _one_column(column: str, cells: Sequence[Any]) -> pa.Table:
    """Texts and paths as strings, pictures as bytes; where both are there, as both."""
    kinds = {type(cell) for cell in cells} - {type(None)}
    if not kinds <= {str, bytes}:
        wrong = sorted(kind.__name__ for kind in kinds - {str, bytes})
        raise UserError(f"input: a list cannot hold {wrong[0]}; give texts, paths, bytes or images")
    if kinds == {str, bytes}:
        cells = [
            {
                "bytes": cell if isinstance(cell, bytes) else None,
                "path": cell if isinstance(cell, str) else None,
            }
            for cell in cells
        ]
        return pa.table({column: pa.array(cells, _IMAGE)})
    return pa.table({column: pa.array(cells, pa.binary() if bytes in kinds else pa.string())})


_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _plain(value: Any) -> Any:
    """A value as parquet holds it."""
    if _is_picture(value):
        return _bytes_of(value)
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _is_picture(value: object) -> bool:
    return _module(value).startswith("PIL.")


def _bytes_of(picture: Any) -> bytes:
    stream = io.BytesIO()
    if picture.mode in PNG_MODES:
        picture.save(stream, "PNG", compress_level=1)
    else:
        picture.save(stream, "TIFF")
    return stream.getvalue()


def _beside(table: pa.Table, new: pa.Table) -> pa.Table:
    for field in new.schema:
        table = table.append_column(field, new[field.name])
    return table


def _module(value: object) -> str:
    return type(value).__module__ + "."
