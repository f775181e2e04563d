"""The one place where a URI becomes a filesystem and a path, and how files are listed and read.

Everything that is read or written goes through a `Location`: local paths, `s3://`, `gs://`, `hf://`
and `https://`, all under fsspec. Endpoint and credentials come from the stores' own environment
variables, or from options by protocol. How files come to be there is `exclusive`'s to decide.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import get_protocol

from pipeline.contract.errors import UserError
from pipeline.storage.backoff import with_backoff

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

INTERNAL = "_gemma3_batch"
"""Folder in an OUTPUT for all that is not data; parquet readers skip names that begin with `_`."""
READABLE = ("file", "local", "s3", "s3a", "gs", "gcs", "hf", "http", "https")
WRITABLE = ("file", "local", "s3", "s3a", "gs", "gcs")
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "s3": {
        "use_listings_cache": False,
        "config_kwargs": {
            "connect_timeout": 20,
            "read_timeout": 60,
            "retries": {"mode": "standard", "max_attempts": 6},
        },
    },
    "gs": {"use_listings_cache": False},
    "https": {"use_listings_cache": False},
}
"""What each store's filesystem is given, beside what the user gives. A cached listing would hide
what another driver wrote."""
ENVIRONMENT = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
"""For the stores' clients, unless the user sets it: gcsfs (2026.10) would ask for a bucket's kind
over gRPC, and where only HTTPS is let through wait a minute for each answer. Zonal buckets need
it."""
STAMPS = ("ETag", "generation", "blob_id", "etag")
"""What tells a file's versions apart: of S3, GCS, Hugging Face and others."""
_SAME_AS = {"s3a": "s3", "gcs": "gs", "http": "https", "local": "file"}

StorageOptions = Mapping[str, Mapping[str, Any]]
"""Arguments for fsspec's filesystems, by protocol: `{"s3": {"endpoint_url": ...}}`."""


@dataclass(frozen=True)
class FileInfo:
    """One file of a listing.

    Attributes:
        path: Relative to the location that was listed, with `/`.
        size: Bytes.
        stamp: Changes when the file is written again: the store's ETag, or the time of the last
            change in nanoseconds. Costs nothing, but is another on another machine.
    """

    path: str
    size: int
    stamp: str


@dataclass(frozen=True)
class Location:
    """A filesystem and an absolute path on it. It pickles."""

    fs: AbstractFileSystem
    path: str

    def __truediv__(self, relative: str) -> Location:
        """A path below this one. An absolute path stands for itself."""
        return Location(self.fs, os.path.join(self.path, relative) if relative else self.path)

    def __str__(self) -> str:
        """As a user would write it: a path, or a URI."""
        return self.path if self.is_local else str(self.fs.unstrip_protocol(self.path))

    @property
    def is_local(self) -> bool:
        """Whether it is on a disk of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def parent(self) -> Location:
        """The folder it lies in."""
        return Location(self.fs, self.path.rstrip("/").rpartition("/")[0] or "/")

    def exists(self) -> bool:
        """Whether a file or folder is there."""
        try:
            with_backoff(lambda: self.fs.info(self.path))
        except FileNotFoundError:
            return False
        return True

    def is_folder(self) -> bool:
        """Whether a folder is there."""
        try:
            return bool(with_backoff(lambda: self.fs.info(self.path))["type"] == "directory")
        except FileNotFoundError:
            return False

    def contains(self, other: Location) -> bool:
        """Whether `other` is this folder or lies in it."""
        if self.is_local != other.is_local or self.fs.protocol != other.fs.protocol:
            return False
        mine, theirs = (_canonical(where) for where in (self, other))
        return theirs == mine or theirs.startswith(mine.rstrip("/") + "/")

    def open(self) -> BinaryIO:
        """Open the file for reading. Raises OSError (FileNotFoundError, PermissionError, ...)."""
        return cast("BinaryIO", self.fs.open(self.path, "rb"))

    def read(self) -> bytes:
        """The whole file. Raises OSError."""
        return bytes(with_backoff(lambda: self.fs.cat_file(self.path)))

    def info(self) -> FileInfo:
        """Size and stamp of the file itself; its `path` is its name. Raises OSError."""
        return _file_info(self.name, with_backoff(lambda: self.fs.info(self.path)))

    def names(self, prefix: str = "") -> list[str]:
        """Names of the files directly in this folder that begin so, unsorted; none if it is gone.

        On an object store one request for a thousand names.
        """
        if self.is_local:
            return _local_names(self.path, prefix)
        base = self.path.rstrip("/") + "/"
        found = with_backoff(lambda: self.fs.find(self.path, maxdepth=1, prefix=prefix))
        return [path.removeprefix(base) for path in found if path.startswith(base)]

    def tree(self) -> list[FileInfo]:
        """All files below, hidden ones too, sorted by path; none if it is gone."""
        found = with_backoff(lambda: self.fs.find(self.path, detail=True))
        base = self.path.rstrip("/") + "/"
        infos = (_file_info_or_none(path.removeprefix(base), info) for path, info in found.items())
        return sorted((info for info in infos if info is not None), key=lambda info: info.path)

    def files(self) -> list[FileInfo]:
        """All files below, sorted by path; names that begin with `_` or `.` are skipped."""
        found = cast("dict[str, dict[str, object]]", self.fs.find(self.path, detail=True))
        base = self.path.rstrip("/") + "/"
        listed = (_file_info(path.removeprefix(base), info) for path, info in found.items())
        return sorted((f for f in listed if not _is_hidden(f.path)), key=lambda f: f.path)


def _local_names(folder: str, prefix: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [e.name for e in entries if e.name.startswith(prefix) and e.is_file()]
    except FileNotFoundError:
        return []


def _canonical(location: Location) -> str:
    return os.path.realpath(location.path) if location.is_local else location.path


def _file_info(path: str, info: Mapping[str, object]) -> FileInfo:
    stamp = next((info[name] for name in STAMPS if info.get(name)), None)
    if stamp is None and "mtime" in info:
        # fsspec gives local times as float seconds, too coarse to tell two quick writes apart.
        stamp = os.stat(str(info["name"])).st_mtime_ns
    size = cast("int", info.get("size") or 0)
    return FileInfo(path, int(size), str(stamp or "").strip('"'))


def _file_info_or_none(path: str, info: Mapping[str, object]) -> FileInfo | None:
    """None where the file went away since it was listed."""
    try:
        return _file_info(path, info)
    except FileNotFoundError:
        return None


def _is_hidden(path: str) -> bool:
    return any(part.startswith(("_", ".")) for part in path.split("/"))


def locate(uri: str, options: StorageOptions | None = None) -> Location:
    """Resolve a URI or a path; a local path becomes absolute.

    Args:
        uri: A path, or `s3://`, `gs://`, `hf://`, `https://`.
        options: Arguments for the filesystem, by protocol.

    Raises:
        UserError: There is no way to read that protocol.
    """
    scheme = get_protocol(uri)
    if scheme not in READABLE:
        raise UserError(
            f"{uri}: no way to read or write '{scheme}:'; use a path, s3://, gs://, hf:// or "
            "https://"
        )
    name = _SAME_AS.get(scheme, scheme)
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    fs, path = fsspec.url_to_fs(uri, **_merged(DEFAULTS.get(name, {}), (options or {}).get(name)))
    return Location(fs, path)


def is_writable(location: Location) -> bool:
    """Whether results can be written to that kind of store."""
    protocols = location.fs.protocol
    names = (protocols,) if isinstance(protocols, str) else protocols
    return any(name in WRITABLE for name in names)


def _merged(base: Mapping[str, Any], more: Mapping[str, Any] | None) -> dict[str, Any]:
    """Both, nested mappings merged; `more` wins."""
    merged = dict(base)
    for name, value in (more or {}).items():
        mine = merged.get(name)
        both = isinstance(mine, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(mine, value) if both else value  # type: ignore[arg-type]
    return merged
