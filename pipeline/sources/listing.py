"""Decides which files an INPUT has, and of which format they are.

An INPUT is a file, a folder (with everything below it) or a glob (`data/**/*.parquet`, matching
files and folders), on any store. Of a folder only the files of one format are taken, the first of
these that it has:

    parquet      .parquet
    jsonl        .jsonl  .ndjson  .jsonl.gz  .ndjson.gz
    webdataset   .tar
    images       .jpg  .jpeg  .png  .webp  .bmp  .gif  .tif  .tiff

Names that begin with `_` or `.` are skipped, and so are empty files other than images: an empty
image is a row with an error. A single file of any other name is taken for parquet.

Listing makes no request for each file: an object store returns a thousand names in one, and a disk
is walked.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from fsspec.utils import get_protocol, glob_translate

from pipeline.contract.errors import UserError, one_line
from pipeline.storage.backoff import with_backoff
from pipeline.storage.location import FileInfo, Location, locate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipeline.storage.location import StorageOptions


class Kind(StrEnum):
    """The format of an input's files."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    WEBDATASET = "webdataset"
    IMAGES = "images"


IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SUFFIXES = {
    Kind.PARQUET: (".parquet",),
    Kind.JSONL: (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"),
    Kind.WEBDATASET: (".tar",),
    Kind.IMAGES: IMAGE_SUFFIXES,
}
"""In the order of preference."""
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Listing:
    """The files of an input.

    Attributes:
        root: The folder their paths start from.
        kind: The format of all of them.
        files: Sorted by path.
    """

    root: Location
    kind: Kind
    files: tuple[FileInfo, ...]


def list_input(uri: str, options: StorageOptions | None = None) -> Listing:
    """Find the files of an INPUT.

    Args:
        uri: A file, a folder or a glob; a path or a URI.
        options: Arguments of the filesystems, by protocol.

    Raises:
        UserError: It is missing, empty, cannot be listed, or has no file of a known format.
    """
    base, pattern = _split_glob(uri)
    location = locate(base, options)
    root, files = _find(location)
    if pattern:
        files = list(_matching(files, pattern, uri))
        if not files:
            raise UserError(f"INPUT {uri} matches no file; check the pattern")
    if root != location:  # a single file
        return Listing(root, _kind_of(files[0]) or Kind.PARQUET, tuple(files))
    return _of_one_kind(root, files)


def _split_glob(uri: str) -> tuple[str, str]:
    """The longest folder without wildcards, and the pattern below it (empty if there is none)."""
    protocol = get_protocol(uri)
    found = _MAGIC.search(uri)
    is_literal = protocol in ("file", "local") and os.path.lexists(uri.removeprefix("file://"))
    if not found or protocol in ("http", "https") or is_literal:
        return uri, ""
    border = uri.rfind("/", 0, found.start())
    return uri[: max(border, 0)] or ("/" if border == 0 else "."), uri[border + 1 :]


def _find(location: Location) -> tuple[Location, list[FileInfo]]:
    """The root and all files, sorted by path; for a single file its folder and itself."""
    try:
        return _find_local(location) if location.is_local else _find_remote(location)
    except FileNotFoundError:
        raise UserError(f"INPUT {location} does not exist") from None
    except PermissionError:
        raise UserError(f"INPUT {location} cannot be listed: permission") from None
    except Exception as error:  # the stores' clients have errors of many kinds
        raise UserError(f"INPUT {location} cannot be listed: {one_line(error)}") from None


def _find_local(location: Location) -> tuple[Location, list[FileInfo]]:
    if os.path.isfile(location.path):
        return location.parent, [location.info()]
    return location, sorted(_walk(location.path), key=lambda file: file.path)


def _find_remote(location: Location) -> tuple[Location, list[FileInfo]]:
    if "https" in location.fs.protocol:
        return location.parent, [location.info()]
    # An object with the folder's own name, or ending in "/", is a placeholder of a folder.
    found = with_backoff(location.files)
    files = [file for file in found if file.path and not file.path.endswith("/")]
    if files and files[0].path != location.path:
        return location, files
    if location.is_folder():
        return location, []
    return location.parent, [location.info()]


def _walk(folder: str) -> Iterator[FileInfo]:
    """All files below a local folder; symbolic links are followed, but not in cycles."""
    waiting = [(folder, "")]
    while waiting:
        path, prefix = waiting.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(("_", ".")):
                    continue
                if not entry.is_dir():
                    yield _local_file(entry, prefix)
                elif not (entry.is_symlink() and _is_cycle(entry.path)):
                    waiting.append((entry.path, f"{prefix}{entry.name}/"))


def _local_file(entry: os.DirEntry[str], prefix: str) -> FileInfo:
    try:
        status = entry.stat()
    except FileNotFoundError:  # a link whose target is missing
        return FileInfo(prefix + entry.name, 0, "")
    return FileInfo(prefix + entry.name, status.st_size, str(status.st_mtime_ns))


def _is_cycle(link: str) -> bool:
    """Whether a link to a folder points to a folder that contains the link."""
    here = os.path.realpath(os.path.dirname(link)) + "/"
    return here.startswith(os.path.realpath(link).rstrip("/") + "/")


def _matching(files: Iterable[FileInfo], pattern: str, uri: str) -> Iterator[FileInfo]:
    """Files whose path, or a folder of it, matches."""
    try:
        matches = re.compile(glob_translate(pattern.rstrip("/"))).match
    except (ValueError, re.error) as error:
        raise UserError(f"INPUT {uri} is not a pattern: {error}") from None
    for file in files:
        if any(matches(path) for path in _path_and_parents(file.path)):
            yield file


def _path_and_parents(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]


def _kind_of(file: FileInfo) -> Kind | None:
    path = file.path.partition("?")[0].lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if path.endswith(suffixes)), None)


def _of_one_kind(root: Location, files: Sequence[FileInfo]) -> Listing:
    by_kind: dict[Kind | None, list[FileInfo]] = {}
    for file in files:
        kind = _kind_of(file)
        if file.size > 0 or kind is Kind.IMAGES:
            by_kind.setdefault(kind, []).append(file)
    for kind in SUFFIXES:
        if kind in by_kind:
            return Listing(root, kind, tuple(by_kind[kind]))
    raise UserError(_nothing_usable(root, files))


def _nothing_usable(root: Location, files: Sequence[FileInfo]) -> str:
    usable = "parquet, .jsonl or .tar files, or images"
    if not files:
        return f"INPUT {root} is empty; it should hold {usable}"
    if all(file.size == 0 for file in files):
        return f"INPUT {root} has nothing but empty files; it should hold {usable}"
    suffixes = ", ".join(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES)
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"INPUT {root} has no {usable} ({suffixes}); it has {files[0].path}{more}"
