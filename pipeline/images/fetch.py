"""Decides how the value of an image column's cell becomes the bytes of an image.

A value is bytes, a path (absolute, or relative to the source's root), a URI, a mapping with `bytes`
and `path` (bytes win), or null. Paths, `s3://`, `gs://`, `hf://` and `file://` are read through
`storage`, `http://` and `https://` through `links`. The package's table says which fault becomes
which outcome.
"""

from __future__ import annotations

import errno
import functools
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import tenacity
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem

from pipeline.contract.errors import RowError, UserError, excerpt, one_line
from pipeline.contract.record import Outcome
from pipeline.images.links import FIRST_PAUSE_S, LONGEST_PAUSE_S, TRIES, fetch_link
from pipeline.storage.backoff import is_transient, note_retry
from pipeline.storage.location import READABLE, Location, locate
from pipeline.storage.refusals import Refusal, code_of, refusal_of

SHORTEST_TRY_S = 0.1
VIDEO_TO_IMAGE = 10
"""A video may have so many times the bytes of an image."""
VIDEO_SECONDS = 120.0
"""Most time to decode one."""
THIS_MACHINE = "this machine"
"""The store of local paths."""


class StoreError(RowError):
    """An image that could not be read for a fault that may be its whole store's.

    Args:
        store: See `store_of`.
        refusal: How the store refuses.
        message: What is wrong with this image.
    """

    def __init__(self, store: str, refusal: Refusal, message: str) -> None:
        super().__init__(Outcome.MISSING_INPUT, "fetch", message)
        self.args = (store, refusal, message)  # what it is made of again in another process
        self.store = store
        self.refusal = refusal


@dataclass(frozen=True)
class ImageLimits:
    """Size and time limits of one image.

    Attributes:
        max_bytes: A larger file is not read to its end.
        max_pixels: Width times height; a larger image is not decoded.
        fetch_seconds: Most time for a URI or a link, all tries together.
        allow_private: Whether links may reach addresses that are not global.
        storage_options: Arguments for the filesystems of URIs, by protocol.
        video_seconds: Most time to decode one video.
        keep_encoded: Whether an image keeps the bytes it was decoded from, see `encoded`.
    """

    max_bytes: int
    max_pixels: int
    fetch_seconds: float = 60.0
    allow_private: bool = False
    storage_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    video_seconds: float = VIDEO_SECONDS
    keep_encoded: bool = False

    @property
    def max_video_bytes(self) -> int:
        """The same for a video, which is not held in memory where it lies on a disk."""
        return VIDEO_TO_IMAGE * self.max_bytes


def fetch_image(value: object, root: Location, limits: ImageLimits, what: str = "image") -> bytes:
    """The bytes of one cell's image.

    Args:
        value: Bytes, a path, a URI, a mapping with `bytes` and `path`, or None.
        root: The folder that relative paths start from.
        limits: Size and time limits.
        what: What it is called in messages.

    Raises:
        RowError: `missing_input`; or `decode_error` where it has no bytes or too many.
        StoreError: `missing_input`, if the fault is not the whole store's.
    """
    value = _inner(value)
    if value is None:
        raise _missing(f"the {what} is null")
    if value == "":
        raise _missing(f"the {what}'s path is empty")
    body = _fetch_named(value, root, limits) if isinstance(value, str) else bytes(value)  # type: ignore[call-overload]
    _check_size(len(body), limits.max_bytes, what)
    return body


def open_video(value: object, root: Location, limits: ImageLimits) -> BinaryIO:
    """One cell's video, open and seekable.

    A file on this machine is read as it is decoded; any other video is in memory.

    Args:
        value: As in `fetch_image`.
        root: As in `fetch_image`.
        limits: As in `fetch_image`, but of `max_video_bytes`.

    Raises:
        RowError: As `fetch_image`.
        StoreError: As `fetch_image`.
    """
    most = limits.max_video_bytes
    name = _inner(value)
    if not isinstance(name, str) or store_of(value, root) != THIS_MACHINE:
        return io.BytesIO(fetch_image(value, root, replace(limits, max_bytes=most), "video"))
    where = _located(name, root, limits)
    try:
        file = where.open()
        size = file.seek(0, io.SEEK_END)
    except Exception as error:  # as for an image
        raise _fault(name, root, where, error) from None
    try:
        _check_size(size, most, "video")
    except RowError:
        file.close()
        raise
    return file


def _inner(value: object) -> object:
    """What a mapping with `bytes` and `path` holds; any other value as it is."""
    if not isinstance(value, dict):
        return value
    inline = value.get("bytes")
    return inline if inline is not None else value.get("path")


def _check_size(size: int, most: int, what: str) -> None:
    if size == 0:
        raise RowError(Outcome.DECODE_ERROR, "fetch", f"the {what} has no bytes")
    if size > most:
        message = f"the {what} has {size:,} bytes, more than the limit of {most:,}"
        raise RowError(Outcome.DECODE_ERROR, "fetch", message)


def store_of(value: object, root: Location) -> str | None:
    """The store that an image lies in; None for bytes and for links, whose hosts are the rows' own.

    Args:
        value: As in `fetch_image`.
        root: The folder that relative paths start from.
    """
    if isinstance(value, dict):
        value = value.get("path") if value.get("bytes") is None else None
    if not isinstance(value, str) or not value:
        return None
    scheme, is_uri, rest = value.partition("://")
    if is_uri and scheme.lower() in ("http", "https"):
        return None
    if not is_uri and not value.startswith("/"):
        scheme, is_uri, rest = str(root).partition("://")
    if not is_uri or scheme.lower() in ("file", "local"):
        return THIS_MACHINE
    if scheme.lower() not in READABLE:
        return None
    parts = rest.split("/")
    depth = 3 if scheme == "hf" and parts[0] in ("datasets", "models", "spaces", "buckets") else 1
    return f"{scheme.lower()}://{'/'.join(parts[:depth])}"


def _missing(message: str) -> RowError:
    return RowError(Outcome.MISSING_INPUT, "fetch", message)


def _fetch_named(name: str, root: Location, limits: ImageLimits) -> bytes:
    if name.lower().startswith(("http://", "https://")):
        return fetch_link(
            name,
            max_bytes=limits.max_bytes,
            seconds=limits.fetch_seconds,
            allow_private=limits.allow_private,
        )
    where = _located(name, root, limits)
    try:
        return _read_stored(where, limits)
    except Exception as error:  # the stores' clients have errors of many kinds
        raise _fault(name, root, where, error) from None


def _located(name: str, root: Location, limits: ImageLimits) -> Location:
    """Where a path or a URI leads. Raises RowError."""
    is_absolute = "://" in name or name.startswith("/")  # wherever the rows are
    try:
        return locate(name, limits.storage_options) if is_absolute else root / name
    except UserError as error:
        raise _missing(str(error)) from None


def _fault(name: str, root: Location, where: Location, error: Exception) -> RowError:
    """What an error of reading an image is: its own fault, or perhaps its store's."""
    refusal = refusal_of(error, is_local=where.is_local)
    store = store_of(name, root)
    if isinstance(error, FileNotFoundError) and _has_no_bucket(where):
        refusal = Refusal.DENIED
    if refusal is None and isinstance(error, FileNotFoundError):
        return _missing(f"there is no file {excerpt(name)}")
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return _missing(f"{excerpt(name, 60)} is no path or link; give bytes, not text with them")
    message = f"{excerpt(name)} cannot be read ({one_line(error)})"
    if refusal is None or store is None:
        return _missing(message)
    return StoreError(store, refusal, message)


def _has_no_bucket(where: Location) -> bool:
    """Whether a file is missing because its bucket is; S3 and the Hub say so themselves."""
    if "gs" not in where.fs.protocol:
        return False
    return _is_missing(where.fs, where.path.partition("/")[0])


@functools.lru_cache(64)
def _is_missing(fs: AbstractFileSystem, bucket: str) -> bool:
    try:
        fs.call("GET", f"b/{bucket}", json_out=True)  # `info` would list all of a bucket
    except FileNotFoundError:
        return True
    except Exception:  # it may not be asked for
        return False
    return False


def _read_stored(where: Location, limits: ImageLimits) -> bytes:
    """Read one byte more than the limit at most, in one request on an object store."""
    if where.is_local:
        with where.open() as file:
            return file.read(limits.max_bytes + 1)
    deadline = time.monotonic() + limits.fetch_seconds
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        stop=tenacity.stop_after_attempt(TRIES) | tenacity.stop_before_delay(limits.fetch_seconds),
        wait=tenacity.wait_random_exponential(FIRST_PAUSE_S, LONGEST_PAUSE_S),
        before_sleep=note_retry,
        reraise=True,
    )(_read_remote, where, limits.max_bytes, deadline)


def _read_remote(where: Location, max_bytes: int, deadline: float) -> bytes:
    bounds: dict[str, Any] = {"start": 0, "end": max_bytes + 1}
    if isinstance(where.fs, AsyncFileSystem):  # the others have time limits of their own
        bounds["timeout"] = max(SHORTEST_TRY_S, deadline - time.monotonic())  # 0 would be no limit
    try:
        return bytes(where.fs.cat_file(where.path, **bounds))
    except OSError as error:
        # S3 answers so to a ranged read of an object without bytes.
        if code_of(error) in ("InvalidRange", "416") and where.info().size == 0:
            return b""
        raise
