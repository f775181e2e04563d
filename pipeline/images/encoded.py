"""The bytes of an image beside its pixels, for an engine that takes images as they are.

Decides which images others read as `decode` does: those of JPEG, PNG or WebP with 8 bits of grey or
RGB, upright, and with one frame. Transparency, CMYK, palettes, 16 bits, animations and EXIF
orientation are handled in several ways elsewhere, so of those only the pixels are passed on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL.ExifTags import Base

if TYPE_CHECKING:
    from PIL.Image import Image

ENCODED = "gemma3_batch_encoded"
"""Key of an image's `info` under which its `Encoded` is."""
KINDS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
MODES = ("RGB", "L")
UPRIGHT = 1


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image as a file holds it.

    Attributes:
        kind: Its media type.
        body: The file's bytes.
    """

    kind: str
    body: bytes


def encoded_of(image: Image, body: bytes) -> Encoded | None:
    """The bytes of an opened image, if others read it as we do; None otherwise.

    Args:
        image: As Pillow opened it.
        body: What it was opened from.
    """
    kind = KINDS.get(image.format or "")
    if kind is None or image.mode not in MODES or "transparency" in image.info:
        return None
    if getattr(image, "n_frames", 1) > 1:
        return None
    if image.getexif().get(Base.Orientation, UPRIGHT) != UPRIGHT:
        return None
    return Encoded(kind, body)
