"""A part as a tar shard in WebDataset format: for each row, members of one key.

    KEY.jpg     the image, with the suffix that its bytes call for; the first binary column
    KEY.txt     the answer; none where a row has none
    KEY.npy     another binary column, if its name can be a suffix (as in shards that were read)
    KEY.json    all other columns, as `values` writes them; always there, and the last of its key

The key is the input's own: `__key__`, or the name of the image's file, without its suffix and with
`_` for further dots, at which a key would end. Where two rows of a shard would have the same one,
the later one's ends with its `row_key`.

The commit record and the columns lie in the tar's global header (pax), which readers of members do
not see.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contract.image_formats import IMAGE_SUFFIXES, SUFFIXES_BY_FORMAT
from pipeline.contract.record import row_key
from pipeline.output.formats.beside import pack_schema, unpack_schema
from pipeline.output.formats.part_format import not_as_written, wanted_columns
from pipeline.output.formats.values import as_text, plain_type, to_table, to_values
from pipeline.sources.columns import is_binary, is_image_struct, is_string
from pipeline.storage.location import stamp_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pipeline.output.formats.part_format import CommitRecord, IsWanted
    from pipeline.output.formats.values import Values
    from pipeline.storage.location import Location

RECORD, COLUMNS = "GEMMA3_BATCH.record", "GEMMA3_BATCH.columns"
"""Keywords of the global header; those with a vendor's name in capitals are free to use."""
TEXT, REST = "txt", "json"
NO_IMAGE = "bin"
"""Suffix of an image in no known format."""
IMAGES = frozenset({NO_IMAGE, *(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)})
PLAIN_SUFFIX = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
AT_ONCE = 32
NAMES = ("__key__", "path")
"""Columns that name a row's image, the first that there is."""


@dataclass(frozen=True)
class WebDataset:
    """A `PartFormat`."""

    suffix = ".tar"
    keeps_images = True

    def misfit(self, field: pa.Field) -> str | None:
        """Of a type that JSON has nothing for."""
        return None if plain_type(field.type) is not None else f"which is {field.type}"

    def write(
        self,
        draft: str,
        part: Location,
        schema: pa.Schema,
        tables: Iterable[pa.Table],
        record: CommitRecord,
    ) -> None:
        """See `PartFormat.write`."""
        headers = {RECORD: json.dumps(record), COLUMNS: pack_schema(schema)}
        keys, layout = _Keys(record["unit"]["id"]), _Layout.of(schema, record)
        with tarfile.open(draft, "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as tar:
            for name, body in _all_members(tables, layout, keys):
                info = tarfile.TarInfo(name)
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))

    def read(self, part: Location, is_wanted: IsWanted) -> pa.Table:
        """See `PartFormat.read`; members that are not wanted are not read."""
        with part.open() as file:
            return _read(file, part, is_wanted)[0]

    def read_whole(self, part: Location) -> tuple[pa.Table, CommitRecord]:
        """See `PartFormat.read_whole`."""
        return _read(io.BytesIO(part.read()), part, lambda _: True)

    def read_schema(self, part: Location) -> pa.Schema:
        """See `PartFormat.read_schema`."""
        with part.open() as file, _opened(file, part) as tar:
            return unpack_schema(tar.pax_headers[COLUMNS])

    def read_record(self, part: Location) -> tuple[CommitRecord, str]:
        """See `PartFormat.read_record`; reads the first blocks alone."""
        with part.open() as file:
            stamp = stamp_of(file)
            with _opened(file, part) as tar:
                return _record(tar), stamp


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Which columns are members of their own.

    Attributes:
        answer: The answer's column; None if there is none.
        is_text: Whether the answer is text. Otherwise its member is for reading only.
        image: The image's column; None if there is none.
        is_struct: Whether that is a struct, of which `KEY.json` has all but the bytes.
        others: Further binary columns.
    """

    answer: str | None
    is_text: bool
    image: str | None
    is_struct: bool
    others: frozenset[str]

    @staticmethod
    def of(schema: pa.Schema, record: CommitRecord) -> _Layout:
        answer = record.get("answer")
        answer = answer if answer in schema.names else None
        binary = [f for f in schema if is_binary(f.type) or is_image_struct(f.type)]
        image = binary[0] if binary else None
        others = [f.name for f in binary[1:] if is_binary(f.type) and _can_be_suffix(f.name)]
        return _Layout(
            answer=answer,
            is_text=answer is not None and is_string(schema.field(answer).type),
            image=image.name if image is not None else None,
            is_struct=image is not None and is_image_struct(image.type),
            others=frozenset(others),
        )

    def column_of(self, suffix: str) -> str | None:
        """The column that a member with this suffix holds; None if it only repeats one."""
        if suffix == TEXT:
            return self.answer if self.is_text else None
        return self.image if suffix in IMAGES else suffix


class _Keys:
    """The keys of a part's rows, all different."""

    def __init__(self, unit_id: str) -> None:
        self._unit_id = unit_id
        self._taken: set[str] = set()
        self._position = 0

    def next(self, name: object) -> str:
        """The key of the next row.

        Args:
            name: What the input calls its image; None for nothing.
        """
        own = row_key(self._unit_id, self._position)
        self._position += 1
        key = _key_of(name) if isinstance(name, str) else ""
        if not key or key in self._taken:
            key = f"{key}-{own}" if key else own
        self._taken.add(key)
        return key


def _key_of(name: str) -> str:
    """A key from a key or the path of a file; empty where that gives none."""
    if "://" in name:  # a link names no file
        return ""
    printable = "".join(letter if letter.isprintable() else "_" for letter in name)
    steps = [step for step in printable.split("/") if step not in ("", ".", "..")]
    if not steps:
        return ""
    stem, dot, suffix = steps[-1].rpartition(".")
    is_file = dot and stem and suffix.lower() in IMAGES
    return "/".join([*steps[:-1], (stem if is_file else steps[-1]).replace(".", "_")])


def _all_members(
    tables: Iterable[pa.Table], layout: _Layout, keys: _Keys
) -> Iterator[tuple[str, bytes]]:
    """Names and bodies of the members of a part, of few rows at a time: images are copied."""
    for table in tables:
        for start in range(0, table.num_rows, AT_ONCE):
            yield from _members(table.slice(start, AT_ONCE), layout, keys)


def _members(table: pa.Table, layout: _Layout, keys: _Keys) -> Iterator[tuple[str, bytes]]:
    """Names and bodies of the members of a table's rows."""
    bodies: dict[str, list[bytes | None]] = {}
    for name in (layout.image, *sorted(layout.others)):
        if name is not None:
            table, bodies[name] = _without_bytes(table, name)
    for row, values in enumerate(to_values(table)):
        key = keys.next(_name(values, layout))
        for name, column in bodies.items():
            body = column[row]
            if body is not None:
                yield f"{key}.{_image_suffix(body) if name == layout.image else name}", body
        if layout.answer is not None:
            answer = values.pop(layout.answer) if layout.is_text else values[layout.answer]
            if answer is not None:
                yield f"{key}.{TEXT}", as_text(answer).encode()
        yield f"{key}.{REST}", json.dumps(values, ensure_ascii=False, allow_nan=False).encode()


def _name(values: Values, layout: _Layout) -> Any:
    """What the input calls the image of a row; None where it says nothing."""
    named = next((values[name] for name in NAMES if isinstance(values.get(name), str)), None)
    if named is None and layout.image is not None and layout.is_struct:
        return (values[layout.image] or {}).get("path")
    return named


def _without_bytes(table: pa.Table, name: str) -> tuple[pa.Table, list[bytes | None]]:
    """A table without a binary column, or without the bytes of a column of structs; and these."""
    place, column = table.schema.get_field_index(name), table[name].combine_chunks()
    if not is_image_struct(column.type):
        return table.remove_column(place), column.to_pylist()
    fields = [*column.type]
    children = [
        pa.nulls(len(column), field.type) if field.name == "bytes" else column.field(field.name)
        for field in fields
    ]
    rest = pa.StructArray.from_arrays(children, fields=fields, mask=column.is_null())
    bodies = pc.struct_field(column, "bytes").to_pylist()
    return table.set_column(place, table.schema.field(name), rest), bodies


def _image_suffix(body: bytes) -> str:
    """The suffix that an image's bytes call for."""
    from pipeline.images.decode import format_of  # Pillow takes a while to import

    found = format_of(body)
    return NO_IMAGE if found is None else SUFFIXES_BY_FORMAT[found][0].removeprefix(".")


def _can_be_suffix(name: str) -> bool:
    return PLAIN_SUFFIX.fullmatch(name) is not None and name not in {TEXT, REST, *IMAGES}


@contextlib.contextmanager
def _opened(file: BinaryIO, part: Location) -> Iterator[tarfile.TarFile]:
    """A part that is read. Raises UserError for a file that is none."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            yield tar
    except (tarfile.TarError, KeyError):
        raise not_as_written(part) from None


def _record(tar: tarfile.TarFile) -> CommitRecord:
    record: CommitRecord = json.loads(tar.pax_headers[RECORD])
    return record


def _read(file: BinaryIO, part: Location, is_wanted: IsWanted) -> tuple[pa.Table, CommitRecord]:
    with _opened(file, part) as tar:
        record, schema = _record(tar), unpack_schema(tar.pax_headers[COLUMNS])
        wanted = wanted_columns(schema, is_wanted)
        rows = [*_rows(tar, _Layout.of(schema, record), {*wanted.names})]
    return to_table(rows, wanted), record


def _rows(tar: tarfile.TarFile, layout: _Layout, wanted: Collection[str]) -> Iterator[Values]:
    """The rows as JSON values, with bytes where members are binary."""
    row: Values = {}
    for member in tar:
        suffix = member.name.rpartition("/")[2].partition(".")[2]
        if suffix == REST:
            yield _row(row, json.loads(_body(tar, member)), layout)
            row = {}
            continue
        name = layout.column_of(suffix)
        if name is not None and name in wanted:
            body = _body(tar, member)
            row[name] = body.decode() if suffix == TEXT else body


def _row(members: Values, values: Values, layout: _Layout) -> Values:
    if layout.is_struct and layout.image in members:
        image = {**values[layout.image], "bytes": members[layout.image]}
        return {**values, **members, layout.image: image}
    return {**values, **members}


def _body(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    assert opened is not None, "a part has files only"
    return opened.read()
