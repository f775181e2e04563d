"""From what a row holds to an RGB image, or the outcome that says why there is none.

    fault                                                    outcome
    null; null bytes and no path; an empty path              missing_input
    a path or object that is not there                       missing_input
    one that may not be read, or is a folder                 missing_input
    a URI that no store takes (`ftp://`)                     missing_input
    a store that stays unreachable or throttled              missing_input
    a link to an address that is not global                  missing_input
    a link whose host is unknown, or not trusted (TLS)       missing_input
    a link that answers 401, 403, 404, 410, any other 4xx    missing_input
    408, 429, 5xx, resets, timeouts, after the last try      missing_input
    more than 5 redirects, or one to another protocol        missing_input
    not complete within `fetch_seconds`                      missing_input
    no bytes; more than `max_bytes`                          decode_error
    not an image, or a format outside FORMATS               decode_error
    more pixels than `max_pixels` (checked before decoding)  decode_error
    cut off or damaged (never a half-grey image)           decode_error
    32-bit floating point pixels (no agreed range)           decode_error

A value is bytes, a path (from the source's root), or a URI: `s3://`, `gs://`, `hf://` and `file://`
through `storage`, `http://` and `https://` through `links`.

Decides how every kind of image becomes upright 8-bit RGB: EXIF orientation applied, transparency
laid on white, CMYK, palette and 16-bit converted, the first frame of an animation. Size and
normalisation are the model's processor's.
"""

from __future__ import annotations

import errno
import functools
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tenacity
from fsspec.asyn import AsyncFileSystem
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.contract.errors import RowError, UserError, one_line
from pipeline.contract.record import Outcome
from pipeline.contract.redaction import redact
from pipeline.images.links import FIRST_PAUSE_S, LONGEST_PAUSE_S, TRIES, fetch_link
from pipeline.storage.backoff import is_transient
from pipeline.storage.location import Location, locate

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "JPEG2000", "PPM", "AVIF")
"""What Pillow may try: formats that hold pixels only. EPS, say, would start another program."""

ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")

SHORTEST_TRY_S = 0.1


@dataclass(frozen=True)
class ImageLimits:
    """How far we go for an image.

    Attributes:
        max_bytes: A larger file is refused unread.
        max_pixels: A larger image is refused undecoded.
        fetch_seconds: For a file or link, all tries together.
        allow_private: Let links reach addresses that are not global.
        storage_options: Arguments for the filesystems of URIs, by protocol.
    """

    max_bytes: int
    max_pixels: int
    fetch_seconds: float = 60.0
    allow_private: bool = False
    storage_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def load_image(value: object, root: Location, limits: ImageLimits) -> Image.Image:
    """Fetch and decode the image that an image column holds.

    Args:
        value: Bytes, a path (absolute, or relative to `root`), a URI, a mapping with `bytes` and
            `path`, or None.
        root: The folder that relative paths start from.
        limits: What is refused unread or undecoded.

    Returns:
        An RGB image, 8 bits a channel, upright.

    Raises:
        RowError: `missing_input` or `decode_error`, as the module's table says.
    """
    return decode(fetch(value, root, limits), limits.max_pixels)


def fetch(value: object, root: Location, limits: ImageLimits) -> bytes:
    """The bytes of an image. Raises RowError; see `load_image`."""
    if isinstance(value, dict):
        inline = value.get("bytes")
        value = inline if inline is not None else value.get("path")
    if value is None:
        raise _missing("the image is null")
    body = _fetch_named(value, root, limits) if isinstance(value, str) else bytes(value)  # type: ignore[call-overload]
    if not body:
        raise RowError(Outcome.DECODE_ERROR, "fetch", "the image has no bytes")
    if len(body) > limits.max_bytes:
        raise _too_large(len(body), limits.max_bytes)
    return body


def _missing(message: str) -> RowError:
    return RowError(Outcome.MISSING_INPUT, "fetch", message)


def _too_large(size: int, limit: int) -> RowError:
    message = f"the image has {size:,} bytes, more than the limit of {limit:,}"
    return RowError(Outcome.DECODE_ERROR, "fetch", message)


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
        where = locate(name, limits.storage_options) if "://" in name else root / name
        return _read_stored(where, limits)
    except UserError as error:
        raise _missing(str(error)) from None
    except FileNotFoundError:
        raise _missing(f"there is no file {redact(name)}") from None
    except Exception as error:  # the stores' clients have errors of many kinds
        raise _missing(f"{redact(name)} cannot be read ({one_line(error)})") from None


def _read_stored(where: Location, limits: ImageLimits) -> bytes:
    """At most one byte more than the limit, in one request on an object store."""
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
        # S3 has no range to give of an object without bytes (InvalidRange).
        if error.errno == errno.EINVAL and where.info().size == 0:
            return b""
        raise


def decode(body: bytes, max_pixels: int) -> Image.Image:
    """Bytes to an upright RGB image. Raises RowError with `decode_error`; see `load_image`."""
    try:
        with Image.open(io.BytesIO(body), formats=_known_formats()) as image:
            _check_pixels(image.width, image.height, max_pixels)
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except RowError:
        raise
    except UnidentifiedImageError:
        message = f"not an image in a known format ({len(body):,} bytes)"
    except Exception as error:  # decoders meet arbitrary bytes: any fault is the row's own
        message = one_line(error)
    raise RowError(Outcome.DECODE_ERROR, "decode", message)


@functools.cache
def _known_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this build of Pillow has; it knows five until it is asked for all."""
    Image.init()
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        message = (
            f"the image declares {width} x {height} pixels, more than the limit of {max_pixels:,}"
        )
        raise RowError(Outcome.DECODE_ERROR, "decode", message)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("32-bit floating point pixels have no agreed range")
    if image.mode in WIDE_MODES:
        return _from_16_bit(image)
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        return _on_white(image.convert("RGBA"))
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255, which turns most 16-bit images white.
    levels = np.clip(np.asarray(image, dtype=np.int64), 0, 65535) >> 8
    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
