"""Decides how the bytes of every kind of image become upright 8-bit RGB.

EXIF orientation is applied, transparency laid on white, CMYK, palette, 12- and 16-bit pixels are
converted (signed ones and those of 32 bits have no range that is agreed on: `decode_error`), and of
an animation the first frame is taken. JPEG's draft mode, which decodes at a half or less of the
size, is not used for the model: a photograph of 12 megapixels takes a third of the time so, but the
896 x 896 pixels that the model sees differ by up to 24 grey levels. It is used for small pictures
for people (`about`).
"""

from __future__ import annotations

import contextlib
import functools
import io
from typing import NamedTuple

import numpy as np
import pi_heif
from PIL import ExifTags, Image, UnidentifiedImageError

from pipeline.contract.errors import RowError, one_line
from pipeline.contract.image_formats import EXTRA, SUFFIXES_BY_FORMAT
from pipeline.contract.record import Outcome
from pipeline.images.encoded import ENCODED, encoded_of
from pipeline.images.jpeg_xl import jpeg_xl
from pipeline.storage.contents import HEAD, JPEG_XL, recognised

ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF 6.0."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation (CIPA DC-008, tag 0x0112)."""


def decode_image(
    body: bytes, max_pixels: int, *, keep_encoded: bool = False, about: int | None = None
) -> Image.Image:
    """Decode an image.

    Args:
        body: The image as a file holds it.
        max_pixels: Width times height; an image that declares more is refused before decoding.
        keep_encoded: Whether the bytes stay with the image, see `encoded`.
        about: Pixels of the longest side that are enough; a JPEG is then decoded at a fraction of
            its size, not below this. None for all of them.

    Returns:
        An RGB image, 8 bits a channel, upright.

    Raises:
        RowError: `decode_error`; it is not an image, damaged or too large.
    """
    try:
        declared = jpeg_xl(body)
        if declared is not None:
            _check_pixels(declared.width, declared.height, max_pixels)
        with Image.open(io.BytesIO(body), formats=_known_formats()) as image:
            _check_pixels(image.width, image.height, max_pixels)
            if about is not None:
                image.draft("RGB", (about, about))  # of a JPEG; does nothing to others
            image.load()
            is_turned = declared is not None and declared.orientation != 1
            is_turned = is_turned and not getattr(image, "jpeg", False)  # it is unpacked as it was
            decoded = _to_rgb(image if is_turned else _upright(image), _grey_of(image))
            if keep_encoded:
                decoded.info[ENCODED] = encoded_of(image, body)
            return decoded
    except RowError:
        raise
    except UnidentifiedImageError:
        message = _not_known(body)
    except Exception as error:  # decoders meet arbitrary bytes: any fault is the row's own
        message = one_line(error)
    raise RowError(Outcome.DECODE_ERROR, "decode", message)


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation shows it; as it is where its EXIF cannot be read.

    `ImageOps.exif_transpose` (Pillow 13) also writes the EXIF anew, and fails where some other tag
    in it is malformed.
    """
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # it is of arbitrary bytes
        return image
    return image if turn is None else image.transpose(turn)


def format_of(body: bytes) -> str | None:
    """Pillow's name of an image's format, by its header; None if it is in none that we read."""
    try:
        with Image.open(io.BytesIO(body), formats=_known_formats()) as image:
            return image.format
    except Exception:  # as above
        return None


@functools.cache
def _known_formats() -> tuple[str, ...]:
    """Those that we read and this build of Pillow has."""
    Image.init()  # until then Pillow knows five
    pi_heif.register_heif_opener()
    with contextlib.suppress(ImportError):
        from pillow_jxl import JpegXLImagePlugin  # registers itself; of the extra `EXTRA`

        JpegXLImagePlugin.DECODE_THREADS = 0  # the processes that decode are as many as the CPUs
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours
    return tuple(kind for kind in SUFFIXES_BY_FORMAT if kind in Image.OPEN)


def _not_known(body: bytes) -> str:
    """What these bytes are that no decoder takes, and what to do about it where that is known."""
    found = recognised(body[:HEAD])
    if found is JPEG_XL and "JXL" not in _known_formats():
        return f"the image is JPEG XL; install gemma3-batch[{EXTRA}], which has its decoder"
    but = f", but {found.what}" if found and not found.suffix else ""
    return f"not an image in a known format{but} ({len(body):,} bytes)"


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        message = (
            f"the image declares {width} x {height} pixels, more than the limit of {max_pixels:,}"
        )
        raise RowError(Outcome.DECODE_ERROR, "decode", message)


class _Grey(NamedTuple):
    """How grey pixels of more than 8 bits are written.

    Attributes:
        bits: Of a pixel.
        is_inverted: Whether 0 is white, as in many scans.
    """

    bits: int
    is_inverted: bool


def _grey_of(image: Image.Image) -> _Grey:
    """As a TIFF's tags say; 16 bits elsewhere, to which Pillow widens what has fewer.

    Raises:
        ValueError: Nothing says which values are black and white.
    """
    tags = getattr(image, "tag_v2", {})
    if image.mode not in WIDE_MODES or not tags:
        return _Grey(bits=16, is_inverted=False)
    (bits,), (kind,) = tags.get(BITS, (16,)), tags.get(SAMPLE_FORMAT, (1,))
    if bits > 16 or kind != 1:  # noqa: PLR2004
        raise ValueError("grey pixels that are signed or of 32 bits have no agreed range")
    return _Grey(bits=bits, is_inverted=tags.get(PHOTOMETRIC) == 0)


def _to_rgb(image: Image.Image, grey: _Grey) -> Image.Image:
    if image.mode == "F":
        raise ValueError("32-bit floating point pixels have no agreed range")
    if image.mode in WIDE_MODES:
        # Pillow's own conversion clips at 255, which turns most 16-bit images white.
        most = (1 << grey.bits) - 1
        levels = np.clip(np.asarray(image, dtype=np.int64), 0, most)
        levels = (most - levels if grey.is_inverted else levels) >> (grey.bits - 8)
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
