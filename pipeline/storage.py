"""The one place where a URI becomes a filesystem and a path, and how files come to be there.

Everything that is read or written goes through here: units and sources ask for listings and open
files, the journal for writes that are there wholly or not at all, and for the exclusive create that
makes a commit. Today's filesystem is the local one; fsspec has the others under the same calls.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import get_protocol

from pipeline.errors import UserError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

INTERNAL = "_gemma3_batch"
"""Folder in an OUTPUT for all that is not data; parquet readers skip names that begin with `_`."""


@dataclass(frozen=True)
class FileInfo:
    """One file of a listing.

    Attributes:
        path: Relative to the location that was listed, with `/`.
        size: Bytes.
        tag: Changes when the content does: the store's ETag, or the time of last change in
            nanoseconds.
    """

    path: str
    size: int
    tag: str


@dataclass(frozen=True)
class Location:
    """A filesystem and an absolute path on it."""

    fs: AbstractFileSystem
    path: str

    def __truediv__(self, relative: str) -> Location:
        """A path below this one. An absolute path stands for itself."""
        return Location(self.fs, os.path.join(self.path, relative) if relative else self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    def exists(self) -> bool:
        """Whether a file or folder is there."""
        return bool(self.fs.exists(self.path))

    def is_folder(self) -> bool:
        """Whether a folder is there."""
        return bool(self.fs.isdir(self.path))

    def is_empty(self) -> bool:
        """Whether nothing is there, or a folder with nothing in it."""
        return not self.exists() or (self.is_folder() and not self.fs.ls(self.path))

    def contains(self, other: Location) -> bool:
        """Whether `other` is this folder or lies in it."""
        mine, theirs = os.path.realpath(self.path), os.path.realpath(other.path)
        return theirs == mine or theirs.startswith(mine.rstrip("/") + "/")

    def open(self) -> BinaryIO:
        """Open the file for reading. Raises OSError (FileNotFoundError, PermissionError, ...)."""
        return cast("BinaryIO", self.fs.open(self.path, "rb"))

    def info(self) -> FileInfo:
        """Size and content tag of the file itself; its `path` is its name."""
        return _file_info(self.name, self.fs.info(self.path))

    def files(self) -> list[FileInfo]:
        """All files below, sorted by path; names that begin with `_` or `.` are skipped."""
        found = cast("dict[str, dict[str, object]]", self.fs.find(self.path, detail=True))
        base = self.path.rstrip("/") + "/"
        listed = (_file_info(path.removeprefix(base), info) for path, info in found.items())
        return sorted((f for f in listed if not _is_hidden(f.path)), key=lambda f: f.path)


def _file_info(path: str, info: dict[str, object]) -> FileInfo:
    tag = info.get("ETag")
    if tag is None:
        # fsspec gives local times as float seconds, too coarse to tell two quick writes apart.
        tag = os.stat(str(info["name"])).st_mtime_ns
    return FileInfo(path, int(cast("int", info["size"])), str(tag))


def _is_hidden(path: str) -> bool:
    return any(part.startswith(("_", ".")) for part in path.split("/"))


def locate(uri: str) -> Location:
    """Resolve a URI or a path; a local path becomes absolute.

    Raises:
        UserError: It is not a local path.
    """
    scheme = get_protocol(uri)
    if scheme not in LocalFileSystem.protocol:
        raise UserError(f"{uri}: no way to read or write '{scheme}:'; use a path on this machine")
    fs, path = url_to_fs(uri)
    return Location(fs, path)


def create_exclusively(complete: str, final: str) -> bool:
    """Publish a finished file under its final name, unless that name is taken.

    Args:
        complete: Local path of the finished file, on the same disk; it is removed.
        final: Local path to create.

    Returns:
        Whether this call created `final`. Of several that try at once, exactly one does.
    """
    try:
        os.link(complete, final)
    except FileExistsError:
        return False
    finally:
        os.unlink(complete)
    sync_folder(os.path.dirname(final))
    return True


def write_whole(path: str, body: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part of it."""
    draft = f"{path}.{os.getpid()}.tmp"
    with open(draft, "wb") as file:
        file.write(body)
        sync_file(file)
    os.replace(draft, path)
    sync_folder(os.path.dirname(path))


def sync_file(file: BinaryIO) -> None:
    """Bring a written file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(path: str) -> None:
    """Bring a folder's entries to the disk, so that a new name outlives a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
