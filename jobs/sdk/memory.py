"""Inputs that are not files: how they become parquet, and how results come back as the same kind.

    a pandas table, an Arrow table, a Hugging Face dataset    the same, with the new columns
    a list of texts, paths, links, bytes or images          a list of dicts of the new columns
    a list of dicts                                           the same dicts, with the new columns
    a `ray.data.Dataset`                                      a `ray.data.Dataset`, read lazily

Images (PIL) become PNG or TIFF, so that no pixel changes. Rows come back in order. No
library is imported unless one of its objects is given.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import FSSpecHandler, PyFileSystem

from pipeline import UserError
from pipeline.contract.errors import one_line
from pipeline.contract.record import ADDED
from pipeline.sources.columns import is_image_struct, is_string

if TYPE_CHECKING:
    from pipeline.storage.location import Location

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


def rows_of(value: Any, column: str, needed: Collection[str] | None = None) -> Rows:
    """An input in memory as rows.

    Args:
        value: A table, a dataset or a list; see the module.
        column: What the values of a plain list are: the column that the job reads.
        needed: The columns that the job reads; what others of pandas and dicts hold need not be
            anything that Arrow knows, they are null here. None for all.

    Raises:
        UserError: It is none of these, or Arrow cannot hold a column.
    """
    if isinstance(value, pa.Table):
        return Rows(table=value, give_back=lambda new: _beside(value, new))
    if _module(value).startswith("pandas") and hasattr(value, "columns"):
        return _of_pandas(value, needed)
    if _module(value).startswith("datasets"):
        return _of_hugging_face(value)
    if isinstance(value, Sequence):
        return _of_list(value, column, needed)
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
    """Write a Ray dataset as parquet, its rows in order; tensors become PNG images."""
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


def count_rows(folder: Location) -> int:
    """The rows of the parquet files in a folder."""
    filesystem = PyFileSystem(FSSpecHandler(folder.fs))
    return int(ds.dataset(folder.path, filesystem=filesystem, format="parquet").count_rows())


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


def _of_pandas(frame: Any, needed: Collection[str] | None) -> Rows:
    names = [str(name) for name in frame.columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"input: there are two columns '{twice}'; rename one")
    series = dict(zip(names, (frame[name] for name in frame.columns), strict=True))

    def give_back(new: pa.Table) -> Any:
        import pandas as pd  # type: ignore[import-untyped]

        # By place: an index may have the same label twice.
        return pd.concat([frame, new.to_pandas().set_index(frame.index)], axis=1)

    return Rows(table=_table(series, len(frame), needed), give_back=give_back)


def _of_hugging_face(dataset: Any) -> Rows:
    if not hasattr(dataset, "num_rows") or not isinstance(dataset.num_rows, int):
        raise UserError("input: give one split of a dataset that is not streamed: ds['train']")
    table = dataset.with_format("arrow")[:]

    def give_back(new: pa.Table) -> Any:
        import datasets  # type: ignore[import-not-found]

        return datasets.concatenate_datasets([dataset, type(dataset)(new)], axis=1)

    return Rows(table=table, give_back=give_back)


def _of_list(values: Sequence[Any], column: str, needed: Collection[str] | None) -> Rows:
    if values and all(isinstance(value, dict) for value in values):
        names = dict.fromkeys(name for row in values for name in row)
        cells = {str(name): [row.get(name) for row in values] for name in names}
        return Rows(
            table=_table(cells, len(values), needed),
            give_back=lambda new: [
                {**row, **added} for row, added in zip(values, new.to_pylist(), strict=True)
            ],
        )
    plain = [_plain(value) for value in values]
    kinds = {type(cell) for cell in plain} - {type(None)}
    if not kinds <= {str, bytes}:
        wrong = sorted(kind.__name__ for kind in kinds - {str, bytes})
        raise UserError(f"input: a list cannot hold {wrong[0]}; give texts, paths, bytes or images")
    table = pa.table({column: _array(column, plain)})
    return Rows(table=table, give_back=lambda new: new.to_pylist())


def _table(columns: Mapping[str, Any], rows: int, needed: Collection[str] | None) -> pa.Table:
    """Columns of cells, or of pandas' series; those that are not needed have nothing but a name."""
    return pa.table(
        {
            name: pa.nulls(rows)
            if needed is not None and name not in needed
            else _array(name, cell)
            for name, cell in columns.items()
        }
    )


def _array(name: str, cells: Any) -> Any:
    """Texts and paths as strings, images as bytes; where both are there, as both."""
    if getattr(cells, "dtype", None) not in (None, object):
        return pa.array(cells, from_pandas=True)  # pandas' own types are Arrow's
    plain = [None if _is_nan(cell) else cell for cell in map(_plain, cells)]
    kinds = {type(cell) for cell in plain} - {type(None)}
    if kinds == {str, bytes}:
        plain = [
            {
                "bytes": cell if isinstance(cell, bytes) else None,
                "path": cell if isinstance(cell, str) else None,
            }
            for cell in plain
        ]
        return pa.array(plain, _IMAGE)
    try:
        return pa.array(plain, None if kinds else pa.string(), from_pandas=True)
    except UnicodeEncodeError:  # half a surrogate pair: the fault of its row, as in a file
        return _unchecked(plain)
    except (pa.ArrowException, OverflowError) as error:
        raise UserError(f"input: column '{name}' cannot be read: {one_line(error)}") from None


def _is_nan(cell: object) -> bool:
    return isinstance(cell, float) and math.isnan(cell)


def _unchecked(cells: Sequence[str | None]) -> pa.Array:
    bodies = [None if cell is None else cell.encode("utf-8", "surrogatepass") for cell in cells]
    return pa.array(bodies, pa.binary()).view(pa.string())


def with_absolute_paths(table: pa.Table, columns: Iterable[str]) -> pa.Table:
    """With relative paths in columns of images as they are meant here, in this process's folder.

    In a file they would start from the file's folder.
    """
    for name in columns:
        kind = table.schema.field(name).type
        is_named = is_string(kind) or (pa.types.is_list(kind) and is_string(kind.value_type))
        if is_image_struct(kind):
            is_named = table[name].combine_chunks().field("bytes").null_count > 0
        with contextlib.suppress(UnicodeError):  # each such row's own fault, as in a file
            if is_named:
                cells = [_absolute(cell) for cell in table[name].to_pylist()]
                place = table.schema.get_field_index(name)
                table = table.set_column(place, table.schema.field(name), pa.array(cells, kind))
    return table


def _absolute(cell: Any) -> Any:
    if isinstance(cell, list):
        return [_absolute(item) for item in cell]
    if isinstance(cell, dict):
        return cell if cell.get("bytes") else {**cell, "path": _absolute(cell.get("path"))}
    if not cell or "://" in cell or cell.startswith("data:"):
        return cell
    return os.path.abspath(os.path.expanduser(cell))


_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _plain(value: Any) -> Any:
    """A value as parquet holds it."""
    if _is_image(value):
        return _bytes_of(value)
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _is_image(value: object) -> bool:
    return _module(value).startswith("PIL.")


def _bytes_of(image: Any) -> bytes:
    stream = io.BytesIO()
    if image.mode in PNG_MODES:
        image.save(stream, "PNG", compress_level=1)
    else:
        image.save(stream, "TIFF")
    return stream.getvalue()


def _beside(table: pa.Table, new: pa.Table) -> pa.Table:
    for field in new.schema:
        table = table.append_column(field, new[field.name])
    return table


def _module(value: object) -> str:
    return type(value).__module__ + "."
