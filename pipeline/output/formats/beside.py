"""Decides where the commit record of a part lies whose format has no place for one.

JSON lines and CSV have rows and nothing else. The record lies beside, under the digest of what the
part holds, and is there before the part is:

    OUTPUT/_gemma3_batch/records/<part>/<digest>.json

So whichever of two drivers makes the part, and whatever is killed in between, the record that is
found is the one of the content that is there. The other's is a file that nobody looks at.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.output.formats.part_format import not_as_written, wanted_columns
from pipeline.output.formats.values import to_table
from pipeline.storage.atomic import create, remove_folder
from pipeline.storage.location import INTERNAL, stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.output.formats.part_format import CommitRecord, IsWanted
    from pipeline.output.formats.values import Values
    from pipeline.storage.location import Location

RECORDS = "records"


class RecordBeside:
    """How a `PartFormat` without a place for the record is read, by what `rows` makes of a part."""

    def rows(self, body: bytes, wanted: pa.Schema) -> Iterable[Values]:
        """The rows of a part as JSON values, with at least these columns."""
        raise NotImplementedError

    def read(self, part: Location, is_wanted: IsWanted) -> pa.Table:
        """See `PartFormat.read`."""
        return self._read(part, is_wanted)[0]

    def read_whole(self, part: Location) -> tuple[pa.Table, CommitRecord]:
        """See `PartFormat.read_whole`."""
        return self._read(part, lambda _: True)

    def read_schema(self, part: Location) -> pa.Schema:
        """See `PartFormat.read_schema`."""
        return find_record(part, part.read())[1]

    def read_record(self, part: Location) -> tuple[CommitRecord, str]:
        """See `PartFormat.read_record`; reads all of the part."""
        with part.open() as file:
            stamp, body = stamp_of(file), file.read()
        return find_record(part, body)[0], stamp

    def _read(self, part: Location, is_wanted: IsWanted) -> tuple[pa.Table, CommitRecord]:
        body = part.read()
        record, schema = find_record(part, body)
        wanted = wanted_columns(schema, is_wanted)
        return to_table(self.rows(body, wanted), wanted), record


def keep_record(part: Location, draft: str, schema: pa.Schema, record: CommitRecord) -> None:
    """Keep the commit record and the columns of what a draft holds.

    Args:
        part: What the draft is to become.
        draft: Path of the whole draft.
        schema: Its columns.
        record: Its commit record.

    Raises:
        OSError: It cannot be written.
    """
    with open(draft, "rb") as file:
        digest = hashlib.file_digest(file, _hash).hexdigest()
    body = json.dumps({"record": record, "schema": pack_schema(schema)})
    create(_folder(part) / f"{digest}.json", body.encode())  # the same content has it already


def find_record(part: Location, body: bytes) -> tuple[CommitRecord, pa.Schema]:
    """The commit record and the columns of a part with this content.

    Raises:
        UserError: There is none: the part or its record was changed by others.
        OSError: It cannot be read.
    """
    digest = _hash(body).hexdigest()
    try:
        found: dict[str, Any] = json.loads((_folder(part) / f"{digest}.json").read())
    except FileNotFoundError:
        raise not_as_written(part) from None
    return found["record"], unpack_schema(found["schema"])


def forget_records(part: Location) -> None:
    """Remove the records of a part that was removed. Raises OSError."""
    remove_folder(_folder(part))


def pack_schema(schema: pa.Schema) -> str:
    """Columns with their types as text."""
    packed: str = schema.serialize().to_pybytes().hex()
    return packed


def unpack_schema(packed: str) -> pa.Schema:
    """What `pack_schema` packed."""
    return pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(packed)))


def _hash(body: bytes = b"") -> Any:
    return hashlib.blake2b(body, digest_size=20)


def _folder(part: Location) -> Location:
    return part.parent / INTERNAL / RECORDS / part.name
