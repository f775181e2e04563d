"""Decides how a path or URI becomes a filesystem and a path, and how files are listed and read.

Everything that is read or written goes through a `Location`: local paths, `s3://`, `gs://`,
`abfs://`, `hf://` and `https://`, and what is in Ray's memory (`ray_memory`), all by fsspec.
Endpoints and credentials come from the stores' own environment variables, or from options by
protocol. Writing is `atomic`'s.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import get_protocol

from pipeline.contract.errors import UserError, one_line
from pipeline.storage.backoff import with_backoff

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

INTERNAL = "_gemma3_batch"
"""Folder in an OUTPUT for what is not data; parquet readers skip names that begin with `_`."""
MEMORY = "ray-memory"
"""The protocol of `ray_memory`, which is for data that programs hand over, not for users."""
AZURE = ("abfs", "abfss", "az")
READABLE = ("file", "local", "s3", "s3a", "gs", "gcs", *AZURE, "hf", "http", "https", MEMORY)
WRITABLE = ("file", "local", "s3", "s3a", "gs", "gcs", MEMORY)
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
    "abfs": {"use_listings_cache": False},
    "https": {"use_listings_cache": False},
}
"""Arguments of each store's filesystem; the user's are merged into them. A cached listing would
hide what another driver wrote."""
ENVIRONMENT = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
"""Environment of the stores' clients, for what the user has not set. gcsfs (2026.10) would ask
for a bucket's kind over gRPC, and wait a minute for it where only HTTPS gets through; zonal buckets
need `true`."""
CREDENTIALS = {"s3": "AWS_", "gs": "GOOGLE_", "abfs": "AZURE_", "hf": "HF_"}
"""How the names of the environment variables begin that a store's client reads once."""
_credentials: dict[str, Mapping[str, str]] = {}
"""Their values when they were last looked at, by store."""
STAMPS = ("ETag", "generation", "blob_id", "etag")
"""Names of what identifies a version of a file, in the info of S3, GCS, Hugging Face and others."""
PROTOCOLS = ("s3", "gs", "abfs", "hf", "https", "file")
"""By which options are given, whatever a URI calls its store."""
_SAME_AS = {
    **dict.fromkeys(AZURE, "abfs"),
    **{"s3a": "s3", "gcs": "gs", "http": "https", "local": "file"},
}
NO_ACCOUNT = (
    "name the account (abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/..., or "
    "AZURE_STORAGE_ACCOUNT_NAME), or set AZURE_STORAGE_CONNECTION_STRING"
)
EXTRAS = {"abfs": "azure"}
"""The extra of this package that brings a store's client, for stores that few need."""

StorageOptions = Mapping[str, Mapping[str, Any]]
"""Arguments of fsspec's filesystems, by protocol: `{"s3": {"endpoint_url": ...}}`."""


@dataclass(frozen=True)
class FileInfo:
    """One file of a listing.

    Attributes:
        path: Relative to the location that was listed, with `/`.
        size: In bytes.
        stamp: Changes when the file is written again: the store's ETag or generation, or on a disk
            the modification time in nanoseconds, which differs between copies.
    """

    path: str
    size: int
    stamp: str


@dataclass(frozen=True)
class Location:
    """A filesystem and an absolute path on it; it pickles."""

    fs: AbstractFileSystem
    path: str

    def __truediv__(self, relative: str) -> Location:
        """A path below this one; on a disk `relative` itself where that is absolute."""
        if not relative:
            return self
        if self.is_local:
            return Location(self.fs, os.path.join(self.path, relative))
        folder = self.path.rstrip("/")  # `relative` may begin with a slash: `images//cat.jpg`
        return Location(self.fs, f"{folder}/{relative}" if folder else relative)

    def __str__(self) -> str:
        """As a user would write it: a path or a URI."""
        return self.path if self.is_local else str(self.fs.unstrip_protocol(self.path))

    @property
    def is_local(self) -> bool:
        """Whether it is on a filesystem of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def parent(self) -> Location:
        """The folder that it is in."""
        return Location(self.fs, self.path.rstrip("/").rpartition("/")[0] or "/")

    def exists(self) -> bool:
        """Whether it is a file or a folder that exists. Raises OSError."""
        try:
            with_backoff(lambda: self.fs.info(self.path))
        except FileNotFoundError:
            return False
        return True

    def is_folder(self) -> bool:
        """Whether it is a folder that exists. Raises OSError."""
        try:
            return bool(with_backoff(lambda: self.fs.info(self.path))["type"] == "directory")
        except FileNotFoundError:
            return False

    def contains(self, other: Location) -> bool:
        """Whether `other` is this folder or is inside it."""
        if self.is_local != other.is_local or self.fs.protocol != other.fs.protocol:
            return False
        mine, theirs = self.path, other.path
        if self.is_local:
            mine, theirs = os.path.realpath(mine), os.path.realpath(theirs)
        return theirs == mine or theirs.startswith(mine.rstrip("/") + "/")

    def open(self) -> BinaryIO:
        """Open the file for reading. Raises OSError."""
        return cast("BinaryIO", self.fs.open(self.path, "rb"))

    def read(self) -> bytes:
        """The whole file. Raises OSError."""
        return bytes(with_backoff(lambda: self.fs.cat_file(self.path)))

    def info(self) -> FileInfo:
        """Size and stamp of the file; `path` is its name. Raises OSError."""
        return file_info(self.name, with_backoff(lambda: self.fs.info(self.path)))

    def names(self, prefix: str = "") -> list[str]:
        """Names of the files directly in this folder, unsorted; none if it does not exist.

        Takes one request for a thousand names on an object store.

        Args:
            prefix: Only names that begin with it.

        Raises:
            OSError: The folder cannot be listed.
        """
        if self.is_local:
            return _local_names(self.path, prefix)
        base = self.path.rstrip("/") + "/"
        found = with_backoff(lambda: self.fs.find(self.path, maxdepth=1, prefix=prefix))
        return [path.removeprefix(base) for path in found if path.startswith(base)]

    def infos(self, prefix: str = "") -> Iterator[FileInfo]:
        """The files directly in this folder, unsorted; none if it does not exist.

        Takes as many requests as `names`.

        Args:
            prefix: Only names that begin with it.

        Raises:
            OSError: The folder cannot be listed.
        """
        if self.is_local:
            yield from _local_infos(self.path, prefix)
            return
        base = self.path.rstrip("/") + "/"
        found = with_backoff(
            lambda: self.fs.find(self.path, maxdepth=1, prefix=prefix, detail=True)
        )
        for path, info in found.items():
            if path.startswith(base):
                yield file_info(path.removeprefix(base), info)

    def tree(self) -> list[FileInfo]:
        """All files below, hidden ones too, sorted by path; none if it does not exist.

        Raises:
            OSError: The folder cannot be listed.
        """
        found = with_backoff(lambda: self.fs.find(self.path, detail=True))
        base = self.path.rstrip("/") + "/"
        files = []
        for path, info in found.items():
            with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                files.append(file_info(path.removeprefix(base), info))
        return sorted(files, key=lambda file: file.path)


def _local_names(folder: str, prefix: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [e.name for e in entries if e.name.startswith(prefix) and e.is_file()]
    except FileNotFoundError:
        return []


def _local_infos(folder: str, prefix: str) -> Iterator[FileInfo]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.is_file():
                with contextlib.suppress(FileNotFoundError):  # removed since it was listed
                    found = entry.stat()
                    yield FileInfo(entry.name, found.st_size, str(found.st_mtime_ns))


def stamp_of(file: BinaryIO) -> str:
    """The `FileInfo.stamp` of the version that an open file reads; costs no request."""
    details = getattr(file, "details", None)  # of fsspec's files on object stores
    if isinstance(details, Mapping):
        return file_info("", details).stamp
    return str(os.fstat(file.fileno()).st_mtime_ns)


def file_info(path: str, info: Mapping[str, object]) -> FileInfo:
    """A file of a listing. Raises FileNotFoundError if it is gone, and OSError.

    Args:
        path: Relative to the location that was listed.
        info: What fsspec says of it.
    """
    stamp = next((info[name] for name in STAMPS if info.get(name)), None)
    if stamp is None and "mtime" in info:
        # fsspec gives local times as float seconds, too coarse to tell two quick writes apart.
        stamp = os.stat(str(info["name"])).st_mtime_ns
    size = cast("int", info.get("size") or 0)
    return FileInfo(path, int(size), str(stamp or "").strip('"'))


def protocol_of(uri: str) -> str:
    """The protocol of a URI; that of a path is `file`, whatever colons are in it."""
    return str(get_protocol(uri)) if "://" in uri else "file"


def locate(uri: str, options: StorageOptions | None = None) -> Location:
    """Resolve a path or a URI; a local path becomes absolute. Nothing is read.

    Args:
        uri: A path, or `s3://`, `gs://`, `abfs://`, `hf://`, `https://`.
        options: Arguments of the filesystems, by protocol.

    Raises:
        UserError: The protocol, or that of an option, is not supported, or its client is not
            installed.
    """
    for protocol in options or {}:
        if protocol not in PROTOCOLS:
            raise UserError(
                f"storage_options: there is no store '{protocol}'; use {', '.join(PROTOCOLS)}"
            )
    scheme = protocol_of(uri)
    if scheme not in READABLE:
        raise UserError(
            f"{uri}: no way to read or write '{scheme}:'; use a path, s3://, gs://, abfs://, "
            "hf:// or https://"
        )
    name = _SAME_AS.get(scheme, scheme)
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    fsspec.register_implementation(MEMORY, "pipeline.storage.ray_memory.RayMemory", clobber=True)
    _forget_old_credentials(name)
    merged = _merged(DEFAULTS.get(name, {}), (options or {}).get(name))
    try:
        fs, path = _opened(uri, name, merged)
    except ValueError as error:
        if name != "abfs":
            raise
        raise UserError(f"{uri}: {one_line(error)}; {NO_ACCOUNT}") from None
    except ImportError as error:
        extra = EXTRAS.get(name)
        if extra is None:
            raise
        why = f"its store's client is missing ({one_line(error)})"
        raise UserError(f"{uri}: {why}; install gemma3-batch[{extra}]") from None
    return Location(fs, path)


def _opened(uri: str, name: str, options: Mapping[str, Any]) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a URI, and its path there."""
    if name == "file":  # fsspec would take `a::b` for a chain of two
        disk = LocalFileSystem(**options)
        return disk, disk._strip_protocol(uri)
    if name != "https":
        return cast("tuple[AbstractFileSystem, str]", fsspec.url_to_fs(uri, **options))
    from pipeline.storage.web import WebFiles  # imports aiohttp, which few need

    path, _, query = uri.partition("?")
    return WebFiles(query=query, **options), path


def _forget_old_credentials(store: str) -> None:
    """Have a store's client made anew if the environment has changed since it was made.

    fsspec keeps one for a whole process, with the credentials and the endpoint that it found then:
    in a notebook, new credentials would never arrive.
    """
    prefix = CREDENTIALS.get(store)
    if prefix is None:
        return
    now = {name: value for name, value in os.environ.items() if name.startswith(prefix)}
    if _credentials.setdefault(store, now) != now:
        _credentials[store] = now
        fsspec.get_filesystem_class(store).clear_instance_cache()


def is_writable(location: Location) -> bool:
    """Whether this kind of store can be written to."""
    protocols = location.fs.protocol
    names = (protocols,) if isinstance(protocols, str) else protocols
    return any(name in WRITABLE for name in names)


def _merged(base: Mapping[str, Any], more: Mapping[str, Any] | None) -> dict[str, Any]:
    """Both, nested mappings merged too; `more` takes precedence."""
    merged = dict(base)
    for name, value in (more or {}).items():
        mine = merged.get(name)
        both = isinstance(mine, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(mine, value) if both else value  # type: ignore[arg-type]
    return merged
