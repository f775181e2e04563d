"""From what a row holds to an RGB picture, or the outcome that says why there is none.

    fault                                                    outcome
    null; null bytes and no path; a path without a file      missing_input
    a path that may not be read, or is a folder              missing_input
    no bytes; more than `max_bytes`                          decode_error
    not a picture, or a format outside FORMATS               decode_error
    more pixels than `max_pixels` (checked before decoding)  decode_error
    cut off or damaged (never a half-grey picture)           decode_error
    32-bit floating point pixels (no agreed range)           decode_error

Decides how every kind of picture becomes upright 8-bit RGB: EXIF orientation applied, transparency
laid on white, CMYK, palette and 16-bit converted, the first frame of an animation. Size and
normalisation are the model's processor's.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import RowError, one_line
from pipeline.record import Outcome

if TYPE_CHECKING:
    from pipeline.storage import Location

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "JPEG2000", "PPM", "AVIF")
"""What Pillow may try: formats that hold pixels only. EPS, say, would start another program."""

ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")


@dataclass(frozen=True)
class ImageLimits:
    """What is too large to be touched."""

    max_bytes: int
    max_pixels: int


def load_image(value: object, root: Location, limits: ImageLimits) -> Image.Image:
    """Fetch and decode the picture that an image column holds.

    Args:
        value: Bytes, a path (absolute, or relative to `root`), a mapping with `bytes` and `path`,
            or None.
        root: The folder that relative paths start from.
        limits: What is refused unread or undecoded.

    Returns:
        An RGB image, 8 bits a channel, upright.

    Raises:
        RowError: `missing_input` or `decode_error`, as the module's table says.
    """
    return decode(fetch(value, root, limits.max_bytes), limits.max_pixels)


def fetch(value: object, root: Location, max_bytes: int) -> bytes:
    """The bytes of a picture. Raises RowError; see `load_image`."""
    if isinstance(value, dict):
        inline = value.get("bytes")
        value = inline if inline is not None else value.get("path")
    if value is None:
        raise RowError(Outcome.MISSING_INPUT, "fetch", "the image is null")
    body = _read_file(value, root, max_bytes) if isinstance(value, str) else bytes(value)  # type: ignore[call-overload]
    if not body:
        raise RowError(Outcome.DECODE_ERROR, "fetch", "the image has no bytes")
    if len(body) > max_bytes:
        raise _too_large(len(body), max_bytes)
    return body


def _too_large(size: int, limit: int) -> RowError:
    message = f"the image has {size:,} bytes, more than the limit of {limit:,}"
    return RowError(Outcome.DECODE_ERROR, "fetch", message)


def _read_file(path: str, root: Location, max_bytes: int) -> bytes:
    if not path:
        raise RowError(Outcome.MISSING_INPUT, "fetch", "the image's path is empty")
    try:
        with (root / path).open() as file:
            return file.read(max_bytes + 1)
    except FileNotFoundError:
        raise RowError(Outcome.MISSING_INPUT, "fetch", f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise RowError(
            Outcome.MISSING_INPUT, "fetch", f"{path} cannot be read ({type(error).__name__})"
        ) from None


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
        message = f"not a picture in a known format ({len(body):,} bytes)"
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
    # Pillow's own conversion clips at 255, which turns most 16-bit pictures white.
    levels = np.clip(np.asarray(image, dtype=np.int64), 0, 65535) >> 8
    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
