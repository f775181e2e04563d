"""Decides what a file is by its first bytes, where its name does not say so, or says it wrongly.

A message can then name what the file is and what to do about it, instead of calling it broken.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.storage.backoff import with_backoff

if TYPE_CHECKING:
    from pipeline.storage.location import Location

HEAD = 64 * 1024
"""Bytes that are read."""
TABLE_LINES = 3
"""Lines of a table of text that must have as many fields as the first."""

SHORT = 10
"""Characters that tell nothing."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file is.

    Attributes:
        what: For messages, with its article.
        fix: What to do about it, as an imperative.
        suffix: The one that its name should have, where it is of a format that is read.
        needs_name: Whether it is read by such a name only.
    """

    what: str
    fix: str
    suffix: str | None = None
    needs_name: bool = False


def _readable(what: str, suffix: str, *, needs_name: bool = False) -> Contents:
    return Contents(what, f"give it a name that ends in {suffix}", suffix, needs_name)


PARQUET = _readable("a parquet file", ".parquet")
JSON_LINES = _readable("JSON lines", ".jsonl")
PACKED_JSON_LINES = _readable("gzipped JSON lines", ".jsonl.gz", needs_name=True)
TAR = _readable("a tar file", ".tar")
CSV = _readable("a CSV file", ".csv", needs_name=True)
TSV = _readable("a TSV file", ".tsv", needs_name=True)
PACKED = {
    JSON_LINES: PACKED_JSON_LINES,
    CSV: _readable("a gzipped CSV file", ".csv.gz", needs_name=True),
    TSV: _readable("a gzipped TSV file", ".tsv.gz", needs_name=True),
}
"""The same, gzipped."""
LFS = Contents("a Git LFS pointer in place of a file", "fetch the file itself with `git lfs pull`")
CONVERT = "write it as parquet or JSON lines"
JSON_ARRAY = Contents(
    "a JSON array", "write its elements as JSON lines (`jq -c '.[]'`) to a .jsonl file"
)
JSON_DOCUMENT = Contents("a JSON document", "write one object a line to a .jsonl file")
TEXT = Contents("plain text", CONVERT)
PAGE = Contents(
    "a web page", "download the file itself: a page, perhaps an error or a login, was saved"
)
XML = Contents("XML", f"{CONVERT}, or download the file again if it is a store's error")
UNPACK = "unpack it"
GZIP = Contents("a gzip file", UNPACK)
PDF = Contents("a PDF document", "give its pages as images")
JPEG_XL = _readable("a JPEG XL image", ".jxl")

SIGNATURES: tuple[tuple[int, bytes, Contents], ...] = (
    (0, b"PAR1", PARQUET),
    (257, b"ustar", TAR),
    (0, b"version https://git-lfs.github.com/", LFS),
    (0, b"PK\x03\x04", Contents("a zip archive", UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Contents("a Zstandard file", UNPACK)),
    (0, b"BZh", Contents("a bzip2 file", UNPACK)),
    (0, b"\xfd7zXZ\x00", Contents("an xz file", UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", Contents("a 7z archive", UNPACK)),
    (0, b"ARROW1", Contents("an Arrow (Feather) file", CONVERT)),
    (0, b"\xff\xff\xff\xff", Contents("an Arrow stream", "write it as parquet")),
    (0, b"ORC", Contents("an ORC file", CONVERT)),
    (0, b"Obj\x01", Contents("an Avro file", CONVERT)),
    (0, b"SQLite format 3\x00", Contents("an SQLite database", CONVERT)),
    (0, b"\x89HDF\r\n\x1a\n", Contents("an HDF5 file", CONVERT)),
    (0, b"%PDF-", PDF),
    (0, b"\xff\xd8\xff", _readable("an image", ".jpg")),
    (0, b"\x89PNG\r\n\x1a\n", _readable("an image", ".png")),
    (0, b"GIF8", _readable("an image", ".gif")),
    (8, b"WEBP", _readable("an image", ".webp")),
    (0, b"II*\x00", _readable("an image", ".tif")),
    (0, b"MM\x00*", _readable("an image", ".tif")),
    (4, b"ftypavif", _readable("an image", ".avif")),
    (4, b"ftyphei", _readable("an image", ".heic")),
    (4, b"ftypmif1", _readable("an image", ".heic")),
    (4, b"ftyp", _readable("a video", ".mp4")),  # also .mov; those above are images in it
    (4, b"moov", _readable("a video", ".mov")),
    (0, b"\x1a\x45\xdf\xa3", _readable("a video", ".mkv")),  # also .webm
    (0, b"\x00\x00\x00\x0cjP  ", _readable("an image", ".jp2")),
    (0, b"\xff\x0a", JPEG_XL),
    (0, b"\x00\x00\x00\x0cJXL ", JPEG_XL),
)
"""Bytes at an offset that only files of one format have, and perhaps texts."""
OF_TEXT = (LFS, PDF)
"""Those that may be text."""


def contents_of(where: Location) -> Contents | None:
    """What a file is; None if its first bytes do not tell. Raises OSError."""
    head = with_backoff(lambda: where.fs.cat_file(where.path, start=0, end=HEAD))
    return recognised(bytes(head))


def recognised(head: bytes) -> Contents | None:
    """What a file is that begins with these bytes; None if they do not tell."""
    text = _decoded(head)
    for offset, signature, contents in SIGNATURES:
        # A text may begin with any letters, such as ORCID.
        if head.startswith(signature, offset) and (text is None or contents in OF_TEXT):
            return contents
    if head.startswith(b"\x1f\x8b"):
        return _packed(head)
    return None if text is None else _text(text.lstrip(), is_whole=len(head) < HEAD)


def _decoded(head: bytes) -> str | None:
    """The text that these bytes are; None if they are none."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(head) < HEAD or error.start < HEAD - 4:  # not just a character that was cut off
            return None
        text = head[: error.start].decode("utf-8-sig")
    return None if "\0" in text else text


def _packed(head: bytes) -> Contents:
    try:
        inner = gzip.GzipFile(fileobj=io.BytesIO(head)).read1(HEAD)
    except (EOFError, OSError, zlib.error):
        inner = b""
    found = recognised(inner)
    if found in PACKED:
        return PACKED[found]
    return Contents(f"a gzip file with {found.what} in it", UNPACK) if found else GZIP


def _text(text: str, *, is_whole: bool) -> Contents | None:
    start = text[:1000].lower()
    if start.startswith(("<!doctype html", "<html")):
        return PAGE
    if start.startswith("<?xml"):
        return PAGE if "<html" in start else XML
    lines = text.splitlines()
    lines = lines if is_whole or len(lines) == 1 else lines[:-1]
    if start.startswith(("{", "[")):
        return _json(lines)
    for delimiter, contents in ((",", CSV), (";", CSV), ("\t", TSV)):
        if _is_table(lines, delimiter):
            return contents
    return TEXT if len(text) > SHORT else None


def _json(lines: list[str]) -> Contents:
    is_object = lines[0].startswith("{")
    try:
        json.loads(lines[0])
    except (ValueError, RecursionError):
        # The second line of an object on several lines is a field; else the first line is broken.
        is_lines = is_object and len(lines) > 1 and not lines[1].lstrip().startswith('"')
        return JSON_LINES if is_lines else JSON_DOCUMENT if is_object else JSON_ARRAY
    return JSON_LINES if is_object else JSON_ARRAY


def _is_table(lines: list[str], delimiter: str) -> bool:
    """Whether the first lines have equally many fields, and several."""
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, strict=True) if row]
    except csv.Error:
        return False
    widths = {len(row) for row in rows[:TABLE_LINES]}
    return len(rows) > 1 and len(widths) == 1 and widths.pop() > 1
