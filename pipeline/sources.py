"""What an INPUT is: parquet files or a folder of pictures; how it is cut, and how a unit is read.

Decides which files belong to the input, the columns they offer, which of those pass through to the
output, and the faults a user can mend before anything starts. Fetching and decoding a picture is
`images`'; a unit's identity is `units`'.

Pass-through: all columns keep their types. Binary ones are dropped (they are the pictures, and
large) unless `keep_images` is set. The `struct<bytes, path>` that Hugging Face datasets write stays
a column of that type with its `bytes` null, so that the path still says which picture it was.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.storage import FileInfo, Location
from pipeline.task import ColumnKind
from pipeline.units import Unit, cut_evenly, cut_row_groups, unit_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

READ_ROWS = 32
"""Rows read at a time where pictures are among the columns, so that they never pile up."""
COPY_ROWS = 4096
"""Rows read at a time where they are not."""
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Source(Protocol):
    """An input whose files are known. It pickles, so that any process can read any unit."""

    @property
    def schema(self) -> pa.Schema:
        """All columns a task can ask for."""
        ...

    @property
    def passthrough_schema(self) -> pa.Schema:
        """The columns that go through to the output, as they will be there."""
        ...

    @property
    def root(self) -> Location:
        """The folder that relative image paths start from."""
        ...

    def units(self) -> list[Unit]:
        """The input cut into units, in input order."""
        ...

    def read(self, unit: Unit, columns: Sequence[str]) -> Iterator[pa.Table]:
        """A unit's rows in order, in small tables of just these columns."""
        ...

    def passthrough(self, unit: Unit) -> Iterator[pa.Table]:
        """A unit's rows in order, in tables of `passthrough_schema`."""
        ...


def open_source(location: Location, *, unit_rows: int, keep_images: bool) -> Source:
    """Find out what an INPUT is.

    Raises:
        UserError: It is missing, empty, or neither parquet nor pictures; or a file is unreadable.
    """
    if not location.exists():
        raise UserError(f"INPUT {location.path} does not exist")
    if not location.is_folder():
        parent = Location(location.fs, location.path.rstrip("/").rpartition("/")[0] or "/")
        return ParquetSource.over(parent, [location.info()], unit_rows, keep_images)
    files = [file for file in location.files() if file.size > 0 or _is_picture(file)]
    parquet = [file for file in files if file.path.lower().endswith(".parquet")]
    if parquet:
        return ParquetSource.over(location, parquet, unit_rows, keep_images)
    pictures = [file for file in files if _is_picture(file)]
    if pictures:
        return PictureFolder(location, tuple(pictures), unit_rows, keep_images)
    raise UserError(_nothing_usable(location, files))


def _is_picture(file: FileInfo) -> bool:
    return file.path.lower().endswith(PICTURE_SUFFIXES)


def _nothing_usable(location: Location, files: Sequence[FileInfo]) -> str:
    if not files:
        return f"INPUT {location.path} is empty; it should hold parquet files or pictures"
    suffixes = ", ".join(suffix.lstrip(".") for suffix in PICTURE_SUFFIXES)
    return (
        f"INPUT {location.path} has neither parquet files nor pictures ({suffixes}); "
        f"it has {files[0].path}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    )


def check_columns(schema: pa.Schema, columns: Mapping[str, ColumnKind]) -> None:
    """Check that an input offers what a task reads.

    Raises:
        UserError: A column is missing (the nearest is suggested), or its type cannot be read so.
    """
    for name, kind in columns.items():
        if name not in schema.names:
            raise UserError(_missing_column(name, schema.names))
        if kind is ColumnKind.IMAGE and not is_image_type(schema.field(name).type):
            raise UserError(
                f"column '{name}' is {schema.field(name).type}; an image column is binary, "
                "struct<bytes, path> or string (the path of a file)"
            )


def _missing_column(name: str, names: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return f"INPUT has no column '{name}'; {hint}its columns are {', '.join(names)}"


def _is_binary(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(type_)
        or pa.types.is_large_binary(type_)
        or pa.types.is_binary_view(type_)
    )


def _is_string(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_string_view(type_)
    )


def _is_image_struct(type_: pa.DataType) -> bool:
    """Hugging Face's encoded image: `bytes`, and usually `path`."""
    if not pa.types.is_struct(type_):
        return False
    fields = {type_.field(i).name: type_.field(i).type for i in range(type_.num_fields)}
    others = fields.keys() - {"bytes", "path"}
    return "bytes" in fields and _is_binary(fields["bytes"]) and not others


def is_image_type(type_: pa.DataType) -> bool:
    """Whether a column of this type can hold pictures or paths of pictures."""
    return _is_binary(type_) or _is_string(type_) or _is_image_struct(type_)


def _is_heavy(type_: pa.DataType) -> bool:
    """Whether pass-through drops it: binary, or a list of binary."""
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return _is_heavy(type_.value_type)
    return _is_binary(type_)


@dataclass(frozen=True)
class ParquetSource:
    """Parquet files with one schema. Built by `over`, which reads all footers once."""

    root: Location
    schema: pa.Schema
    files: tuple[tuple[FileInfo, tuple[int, ...]], ...]
    """Each file with the rows of its row groups."""
    unit_rows: int
    keep_images: bool

    @staticmethod
    def over(
        root: Location, files: Sequence[FileInfo], unit_rows: int, keep_images: bool
    ) -> ParquetSource:
        """Read the footers. Raises UserError for a broken file, or one whose columns differ."""
        footers = [(file, *_footer(root, file)) for file in files]
        filled = [footer for footer in footers if sum(footer[2])]
        if not filled:
            raise UserError(f"INPUT {(root / files[0].path).path} has no rows")
        first, schema, _ = filled[0]
        for file, other, _ in filled[1:]:
            _check_same_columns(first, schema, file, other)
        sized = tuple((file, row_groups) for file, _, row_groups in filled)
        return ParquetSource(root, schema, sized, unit_rows, keep_images)

    @property
    def passthrough_schema(self) -> pa.Schema:
        """All columns but binary ones; see the module's docstring."""
        if self.keep_images:
            return self.schema
        # Hugging Face's own metadata would promise pictures that are no longer there.
        return pa.schema([field for field in self.schema if not _is_heavy(field.type)])

    def units(self) -> list[Unit]:
        """Ranges of row groups, or slices of a row group that is larger than a unit."""
        pieces = (
            (file, start, stop)
            for file, row_groups in self.files
            for start, stop in cut_row_groups(row_groups, self.unit_rows)
        )
        return [
            Unit(
                index=index,
                id=unit_id([file], start, stop),
                files=(file.path,),
                start=start,
                stop=stop,
            )
            for index, (file, start, stop) in enumerate(pieces)
        ]

    def read(self, unit: Unit, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Only the row groups and columns asked for are read."""
        return self._slices(unit, list(columns), READ_ROWS)

    def passthrough(self, unit: Unit) -> Iterator[pa.Table]:
        """Pictures that are dropped are not read either."""
        schema = self.passthrough_schema
        wanted = schema.names if self.keep_images else _light_leaves(schema)
        rows = READ_ROWS if self.keep_images else COPY_ROWS
        for table in self._slices(unit, wanted, rows):
            yield _restore_columns(table, schema)

    def _slices(self, unit: Unit, columns: list[str], rows: int) -> Iterator[pa.Table]:
        (path,) = unit.files
        sizes = next(sizes for file, sizes in self.files if file.path == path)
        groups, skipped = _covering(sizes, unit.start, unit.stop)
        with (self.root / path).open() as file, pq.ParquetFile(file) as parquet:
            if not columns:  # no projection at all would read every column
                yield _bare(unit.rows)
                return
            batches = parquet.iter_batches(rows, row_groups=groups, columns=columns)
            yield from _cut_to(batches, unit.start - skipped, unit.rows)


def _footer(root: Location, file: FileInfo) -> tuple[pa.Schema, tuple[int, ...]]:
    """A parquet file's schema and the rows of its row groups."""
    try:
        with (root / file.path).open() as opened, pq.ParquetFile(opened) as parquet:
            meta = parquet.metadata
            sizes = tuple(meta.row_group(i).num_rows for i in range(meta.num_row_groups))
            return parquet.schema_arrow, sizes
    except PermissionError:
        raise UserError(f"INPUT {(root / file.path).path} cannot be read: permission") from None
    except (pa.ArrowInvalid, OSError):
        raise UserError(
            f"INPUT {(root / file.path).path} is not a readable parquet file; "
            "repair it or take it away"
        ) from None


def _check_same_columns(
    first: FileInfo, schema: pa.Schema, file: FileInfo, other: pa.Schema
) -> None:
    here, there = ({field.name: field.type for field in s} for s in (schema, other))
    for name in (*here, *there):
        if here.get(name) != there.get(name):
            raise UserError(
                f"column '{name}' is {here.get(name, 'absent')} in {first.path} and "
                f"{there.get(name, 'absent')} in {file.path}; run them apart"
            )


def _covering(sizes: Sequence[int], start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that hold rows `[start, stop)`, and the rows before the first of them."""
    groups: list[int] = []
    skipped = begin = 0
    for group, rows in enumerate(sizes):
        if begin + rows <= start:
            skipped += rows
        elif begin < stop:
            groups.append(group)
        begin += rows
    return groups, skipped


def _cut_to(batches: Iterable[pa.RecordBatch], skip: int, rows: int) -> Iterator[pa.Table]:
    """Drop the first `skip` rows of a stream and end it after `rows`."""
    for batch in batches:
        piece = batch.slice(skip, rows)
        skip = max(0, skip - batch.num_rows)
        rows -= piece.num_rows
        if piece.num_rows:
            yield pa.Table.from_batches([piece])
        if not rows:
            return


def _bare(rows: int) -> pa.Table:
    """A table of rows without columns: an input may have nothing but pictures."""
    return pa.table({"_": pa.nulls(rows)}).select([])


def _light_leaves(schema: pa.Schema) -> list[str]:
    """Parquet columns to read for a pass-through without pictures."""
    return [f"{f.name}.path" if _is_image_struct(f.type) else f.name for f in schema]


def _restore_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring a projected table to its full schema, with nulls where bytes were not read."""
    if not schema.names:
        return _bare(table.num_rows)
    columns = []
    for field in schema:
        column = table.column(field.name) if field.name in table.column_names else None
        if column is not None and column.type == field.type:
            columns.append(column)
        else:
            columns.append(_without_bytes(column, field.type, table.num_rows))
    return pa.table(columns, schema=schema)


def _without_bytes(column: pa.ChunkedArray | None, type_: pa.StructType, rows: int) -> pa.Array:
    if column is None:
        return pa.nulls(rows, type_)
    structs = column.combine_chunks()
    children = [
        structs.field("path") if field.name == "path" else pa.nulls(rows, field.type)
        for field in type_
    ]
    return pa.StructArray.from_arrays(children, fields=list(type_), mask=structs.is_null())


@dataclass(frozen=True)
class PictureFolder:
    """A folder of pictures, as if it were a table with the columns `path` and `image`.

    `path` is relative to the folder; `image` is the file's bytes.
    """

    root: Location
    files: tuple[FileInfo, ...]
    unit_rows: int
    keep_images: bool

    @property
    def schema(self) -> pa.Schema:
        """`path` and `image`."""
        return pa.schema([pa.field("path", pa.string()), pa.field("image", pa.binary())])

    @property
    def passthrough_schema(self) -> pa.Schema:
        """`path`; `image` too where images are kept."""
        return self.schema if self.keep_images else pa.schema([self.schema.field("path")])

    def units(self) -> list[Unit]:
        """Slices of the sorted listing."""
        ranges = cut_evenly(0, len(self.files), self.unit_rows)
        return [self._unit(i, self.files[start:stop]) for i, (start, stop) in enumerate(ranges)]

    @staticmethod
    def _unit(index: int, files: Sequence[FileInfo]) -> Unit:
        return Unit(
            index=index,
            id=unit_id(files, 0, len(files)),
            files=tuple(file.path for file in files),
            start=0,
            stop=len(files),
        )

    def read(self, unit: Unit, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The `image` column holds paths here: the render stage fetches them where it runs."""
        paths = pa.array(unit.files, pa.string())
        table = pa.table({"path": paths, "image": paths}).select(list(columns))
        for start in range(0, unit.rows, COPY_ROWS):
            yield table.slice(start, COPY_ROWS)

    def passthrough(self, unit: Unit) -> Iterator[pa.Table]:
        """A picture that is gone by now has a null `image`."""
        rows = READ_ROWS if self.keep_images else COPY_ROWS
        for start in range(0, unit.rows, rows):
            paths = unit.files[start : start + rows]
            columns = [pa.array(paths, pa.string())]
            if self.keep_images:
                columns.append(pa.array([self._bytes(path) for path in paths], pa.binary()))
            yield pa.table(columns, schema=self.passthrough_schema)

    def _bytes(self, path: str) -> bytes | None:
        try:
            with (self.root / path).open() as file:
                return file.read()
        except OSError:
            return None
