"""Decides which files an INPUT has, and of which format they are.

An INPUT is a file, a folder (with everything below it) or a glob (`data/**/*.parquet`, matching
files and folders), on any store. Of a folder only the files of one format are taken, the first of
these that it has:

    parquet      .parquet
    jsonl        .jsonl  .ndjson  .jsonl.gz  .ndjson.gz
    webdataset   .tar
    images       the suffixes of `contract.image_formats`: .jpg, .png, .heic and so on

Suffixes match in any case. Files that are not taken are counted, and a few of them named, by
reason (`skipped`): those of another format, and empty ones. An empty image is taken, as a row with
an error. Names that begin with `_` or `.` are hidden, and passed over without being counted.

A single file of another name is taken for what it is by its first bytes.

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
from pipeline.contract.image_formats import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES
from pipeline.sources.skipped import Reason, Skipped, SkippedFiles
from pipeline.storage.backoff import with_backoff
from pipeline.storage.contents import contents_of
from pipeline.storage.location import FileInfo, Location, locate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pipeline.storage.location import StorageOptions


class Kind(StrEnum):
    """The format of an input's files."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    WEBDATASET = "webdataset"
    IMAGES = "images"


SUFFIXES = {
    Kind.PARQUET: (".parquet",),
    Kind.JSONL: (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz"),
    Kind.WEBDATASET: (".tar",),
    Kind.IMAGES: IMAGE_SUFFIXES,
}
"""In the order of preference."""
USABLE = "parquet, .jsonl or .tar files, or images"
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Listing:
    """The files of an input.

    Attributes:
        root: The folder their paths start from.
        kind: The format of all of them.
        files: Sorted by path.
        skipped: The others, by reason.
    """

    root: Location
    kind: Kind
    files: tuple[FileInfo, ...]
    skipped: tuple[Skipped, ...] = ()


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
        (file,) = files
        return Listing(root, kind_of(file.path) or _kind_by_contents(root / file.path), (file,))
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


def kind_of(path: str) -> Kind | None:
    """The format that a file's name tells; None if it tells none."""
    name = path.partition("?")[0].lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if name.endswith(suffixes)), None)


def _kind_by_contents(where: Location) -> Kind:
    """The format of a single file whose name does not tell it. Raises UserError."""
    try:
        contents = contents_of(where)
    except Exception as error:  # the stores' clients have errors of many kinds
        raise UserError(f"INPUT {where} cannot be read: {one_line(error)}") from None
    if contents is None:
        raise UserError(f"INPUT {where} is of no known format; it should be one of {USABLE}")
    kind = kind_of(contents.suffix or "")
    if kind is None or contents.needs_name:
        raise UserError(f"INPUT {where} is {contents.what}; {contents.fix}")
    return kind


def _of_one_kind(root: Location, files: Iterable[FileInfo]) -> Listing:
    taken: dict[Kind, list[FileInfo]] = {}
    skipped = SkippedFiles()
    for file in files:
        kind = kind_of(file.path)
        if kind is None or (file.size == 0 and kind is not Kind.IMAGES):
            skipped.add(_why_skipped(file), file.path)
        else:
            taken.setdefault(kind, []).append(file)
    chosen = next((kind for kind in SUFFIXES if kind in taken), None)
    if chosen is None:
        raise UserError(_nothing_usable(root, skipped.found()))
    for kind, others in taken.items():
        for file in others if kind is not chosen else ():
            skipped.add(Reason.OTHER_KIND, file.path)
    return Listing(root, chosen, tuple(taken[chosen]), skipped.found())


def _why_skipped(file: FileInfo) -> Reason:
    if file.size == 0:
        return Reason.EMPTY
    is_image = file.path.lower().endswith(OTHER_IMAGE_SUFFIXES)
    return Reason.OTHER_IMAGE if is_image else Reason.UNKNOWN


def _nothing_usable(root: Location, skipped: Iterable[Skipped]) -> str:
    found = {group.reason: group for group in skipped}
    if not found:
        return f"INPUT {root} is empty; it should hold {USABLE}"
    if found.keys() == {Reason.EMPTY}:
        return f"INPUT {root} has nothing but empty files; it should hold {USABLE}"
    named = ", ".join(
        f"{group.count:,} {reason} ({group.examples[0]})" for reason, group in found.items()
    )
    return f"INPUT {root} has no {USABLE}, but files that are not read: {named}"
