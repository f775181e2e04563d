"""How data in memory becomes rows, and how results come back as the same kind of data.

    input                                                     result
    a pandas table, an Arrow table, a Hugging Face dataset    the same, with the new columns
    a list of texts, paths, links, bytes or images            a list of dicts of the new columns
    a list of dicts                                           the same dicts, with the new columns
    a `ray.data.Dataset`                                      a `ray.data.Dataset`

PIL images become PNG or TIFF, which keep every pixel. Rows keep their order. `parquet_files` writes
them to files. A library is imported only if one of its objects is given.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline import UserError
from pipeline.contract.errors import one_line
from pipeline.contract.record import ADDED
from pipeline.sources.columns import is_image_struct, is_list, is_string

if TYPE_CHECKING:
    pass

PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Data in memory.

    Attributes:
        table: The rows, as Arrow.
        give_back: Makes the result from a table of the new columns, its rows in order.
    """

    table: pa.Table
    give_back: Callable[[pa.Table], Any]


def is_uri(value: object) -> bool:
    """Whether an input is the path or URI of files."""
    return isinstance(value, str | os.PathLike)


def is_ray_dataset(value: object) -> bool:
    """Whether an input is a `ray.data.Dataset`."""
    return _module(value).startswith("ray.data")


def rows_of(value: Any, column: str, needed: Collection[str] | None = None) -> Rows:
    """Turn data in memory into rows.

    Args:
        value: A table, a dataset or a list, as described in the module.
        column: The column that the values of a plain list become.
        needed: The columns that the job reads; None for all. Other columns of pandas tables and
            dicts become null, since Arrow may have no type for them.

    Raises:
        UserError: The value is none of these, or Arrow cannot hold a column.
    """
    if isinstance(value, pa.Table):
        return Rows(table=value, give_back=lambda new: _with_columns(value, new))
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


def new_columns(results: Sequence[str], prefix: str = "") -> list[str]:
    """The columns added to data in memory: the job's results, then all of `ADDED` but the key.

    Args:
        results: The names of the job's results.
        prefix: What the names of added columns begin with.
    """
    names = [*results, *(name for name in ADDED.names if name != "row_key")]
    return [f"{prefix}{name}" for name in names]


def _of_pandas(frame: Any, needed: Collection[str] | None) -> Rows:
    names = [str(name) for name in frame.columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"input: there are two columns '{twice}'; rename one")
    series = dict(zip(names, (frame[name] for name in frame.columns), strict=True))

    def give_back(new: pa.Table) -> Any:
        import pandas as pd  # type: ignore[import-untyped]

        # By position: an index may have the same label twice.
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
    """A table of columns of cells or pandas series; columns that are not needed become null."""
    return pa.table(
        {
            name: pa.nulls(rows)
            if needed is not None and name not in needed
            else _array(name, cell)
            for name, cell in columns.items()
        }
    )


def _array(name: str, cells: Any) -> Any:
    """Cells as an Arrow array: texts and paths as strings, images as bytes, a mix as structs.

    Lists of them likewise.
    """
    if getattr(cells, "dtype", None) not in (None, object):
        return pa.array(cells, from_pandas=True)  # a pandas type, which Arrow knows
    plain = [
        None if isinstance(cell, float) and math.isnan(cell) else cell
        for cell in map(_plain, cells)
    ]
    kinds = {type(cell) for cell in plain} - {type(None)}
    if _are_structs(plain):
        return pa.array([_struct(cell) for cell in plain], IMAGE)
    if kinds == {list} and _are_structs([item for cell in plain for item in cell or ()]):
        lists = [None if cell is None else [_struct(item) for item in cell] for cell in plain]
        return pa.array(lists, pa.list_(IMAGE))
    try:
        return pa.array(plain, None if kinds else pa.string(), from_pandas=True)
    except UnicodeEncodeError:  # half a surrogate pair: only its row fails, as in a file
        encoded = [
            None if text is None else text.encode("utf-8", "surrogatepass") for text in plain
        ]
        return pa.array(encoded, pa.binary()).view(pa.string())
    except (pa.ArrowException, OverflowError) as error:
        raise UserError(f"input: column '{name}' cannot be read: {one_line(error)}") from None


def _are_structs(cells: Sequence[Any]) -> bool:
    """Whether these become structs of images: paths and bytes, or dicts of the two."""
    cells = [cell for cell in cells if cell is not None]
    dicts = [cell for cell in cells if isinstance(cell, dict)]
    kinds = {type(cell) for cell in cells}
    is_mix = kinds == {str, bytes} or (bool(dicts) and kinds <= {str, bytes, dict})
    return is_mix and all(cell and cell.keys() <= {"bytes", "path"} for cell in dicts)


def _struct(cell: Any) -> dict[str, Any] | None:
    """A path, bytes, or a dict of the two as a struct of `IMAGE`."""
    if cell is None or isinstance(cell, dict):
        return cell
    return {"path": cell} if isinstance(cell, str) else {"bytes": cell}


def with_absolute_paths(table: pa.Table, columns: Iterable[str], here: str) -> pa.Table:
    """Make relative paths in image columns absolute.

    In a file they would be relative to the file's folder.

    Args:
        table: The rows.
        columns: The image columns.
        here: The folder that the paths are relative to.
    """
    for name in columns:
        field, place = table.schema.field(name), table.schema.get_field_index(name)
        chunks = [_with_absolute(chunk, here) for chunk in table[name].chunks]
        table = table.set_column(place, field, pa.chunked_array(chunks, field.type))
    return table


def _with_absolute(cells: pa.Array, here: str) -> pa.Array:
    """Cells of an image column, a chunk of it: all chunks together may be too large for one."""
    kind = cells.type
    item = kind.value_type if is_list(kind) else kind
    has_paths = is_string(item) or is_image_struct(item)
    if is_image_struct(kind):
        has_paths = cells.field("bytes").null_count > 0
    with contextlib.suppress(UnicodeError):  # only the row with half a surrogate pair fails
        if has_paths:
            return pa.array([_absolute(cell, here) for cell in cells.to_pylist()], kind)
    return cells


def first_local_path(table: pa.Table, columns: Iterable[str]) -> str | None:
    """The first path on a disk in image columns; None if there is none."""
    with_paths = (name for name in columns if "string" in str(table.schema.field(name).type))
    with contextlib.suppress(UnicodeError):
        for cell in (cell.as_py() for name in with_paths for cell in table[name]):
            for value in cell if isinstance(cell, list) else [cell]:
                path = value.get("path") if isinstance(value, dict) else value
                if isinstance(path, str) and path.startswith("/"):
                    return path
    return None


def _absolute(cell: Any, here: str) -> Any:
    if isinstance(cell, list):
        return [_absolute(item, here) for item in cell]
    if isinstance(cell, dict):
        return cell if cell.get("bytes") else {**cell, "path": _absolute(cell.get("path"), here)}
    if not cell or "://" in cell or cell.startswith("data:"):
        return cell
    return os.path.normpath(os.path.join(here, os.path.expanduser(cell)))


def _plain(value: Any) -> Any:
    """A value as parquet holds it."""
    if _module(value).startswith("PIL."):
        return image_bytes(value)
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def image_bytes(image: Any) -> bytes:
    """A PIL image as a file that keeps every pixel: PNG, or TIFF where PNG has no such mode."""
    stream = io.BytesIO()
    if image.mode in PNG_MODES:
        image.save(stream, "PNG", compress_level=1)
    else:
        image.save(stream, "TIFF")
    return stream.getvalue()


def _with_columns(table: pa.Table, new: pa.Table) -> pa.Table:
    for field in new.schema:
        table = table.append_column(field, new[field.name])
    return table


def _module(value: object) -> str:
    """The module of a value's class, with a point at its end."""
    return type(value).__module__ + "."
