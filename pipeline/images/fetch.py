"""Decides how the value of an image column's cell becomes the bytes of an image.

A value is bytes, a path (absolute, or relative to the source's root), a URI, a mapping with `bytes`
and `path` (bytes win), or null. Paths, `s3://`, `gs://`, `hf://` and `file://` are read through
`storage`, `http://` and `https://` through `links`. The package's table says which fault becomes
which outcome.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tenacity
from fsspec.asyn import AsyncFileSystem

from pipeline.contract.errors import RowError, UserError, one_line
from pipeline.contract.record import Outcome
from pipeline.contract.redaction import redact
from pipeline.images.links import FIRST_PAUSE_S, LONGEST_PAUSE_S, TRIES, fetch_link
from pipeline.storage.backoff import is_transient
from pipeline.storage.location import Location, locate

SHORTEST_TRY_S = 0.1


@dataclass(frozen=True)
class ImageLimits:
    """Size and time limits of one image.

    Attributes:
        max_bytes: A larger file is not read to its end.
        max_pixels: Width times height; a larger image is not decoded.
        fetch_seconds: Most time for a URI or a link, all tries together.
        allow_private: Whether links may reach addresses that are not global.
        storage_options: Arguments for the filesystems of URIs, by protocol.
    """

    max_bytes: int
    max_pixels: int
    fetch_seconds: float = 60.0
    allow_private: bool = False
    storage_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def fetch_image(value: object, root: Location, limits: ImageLimits) -> bytes:
    """The bytes of one cell's image.

    Args:
        value: Bytes, a path, a URI, a mapping with `bytes` and `path`, or None.
        root: The folder that relative paths start from.
        limits: Size and time limits.

    Raises:
        RowError: `missing_input`; or `decode_error` where it has no bytes or too many.
    """
    if isinstance(value, dict):
        inline = value.get("bytes")
        value = inline if inline is not None else value.get("path")
    if value is None:
        raise _missing("the image is null")
    body = _fetch_named(value, root, limits) if isinstance(value, str) else bytes(value)  # type: ignore[call-overload]
    if not body:
        raise RowError(Outcome.DECODE_ERROR, "fetch", "the image has no bytes")
    if len(body) > limits.max_bytes:
        message = f"the image has {len(body):,} bytes, more than the limit of {limits.max_bytes:,}"
        raise RowError(Outcome.DECODE_ERROR, "fetch", message)
    return body


def _missing(message: str) -> RowError:
    return RowError(Outcome.MISSING_INPUT, "fetch", message)


def _fetch_named(name: str, root: Location, limits: ImageLimits) -> bytes:
    if not name:
        raise _missing("the image's path is empty")
    if name.lower().startswith(("http://", "https://")):
        return fetch_link(
            name,
            max_bytes=limits.max_bytes,
            seconds=limits.fetch_seconds,
            allow_private=limits.allow_private,
        )
    try:
        is_absolute = "://" in name or name.startswith("/")  # wherever the rows are
        where = locate(name, limits.storage_options) if is_absolute else root / name
        return _read_stored(where, limits)
    except UserError as error:
        raise _missing(str(error)) from None
    except FileNotFoundError:
        raise _missing(f"there is no file {redact(name)}") from None
    except Exception as error:  # the stores' clients have errors of many kinds
        raise _missing(f"{redact(name)} cannot be read ({one_line(error)})") from None


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
        reraise=True,
    )(_read_remote, where, limits.max_bytes, deadline)


def _read_remote(where: Location, max_bytes: int, deadline: float) -> bytes:
    bounds: dict[str, Any] = {"start": 0, "end": max_bytes + 1}
    if isinstance(where.fs, AsyncFileSystem):  # the others have time limits of their own
        bounds["timeout"] = max(SHORTEST_TRY_S, deadline - time.monotonic())  # 0 would be no limit
    try:
        return bytes(where.fs.cat_file(where.path, **bounds))
    except OSError as error:
        # S3 answers InvalidRange to a ranged read of an object without bytes.
        if error.errno == errno.EINVAL and where.info().size == 0:
            return b""
        raise
