"""Images for the tests, good and broken, as bytes."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pi_heif
import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()  # for `save`
pi_heif.register_heif_opener()  # for `open`, as in the pipeline: the last one counts

Colour = tuple[int, int, int]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(colour: Colour = (200, 30, 40), size: tuple[int, int] = (32, 24)) -> Image.Image:
    """An image of one colour."""
    return Image.new("RGB", size, colour)


def jpeg(colour: Colour = (200, 30, 40)) -> bytes:
    """A JPEG of one colour."""
    return encoded(plain(colour), "JPEG", quality=95)


def noisy_jpeg() -> bytes:
    """A JPEG whose data is long enough to be cut in the middle."""
    return encoded(Image.effect_noise((96, 96), 80).convert("RGB"), "JPEG", quality=90)


def truncated_jpeg() -> bytes:
    """Half of a JPEG: a careless reader shows its lower half grey."""
    whole = noisy_jpeg()
    return whole[: len(whole) // 2]


def bomb_png(side: int = 60_000) -> bytes:
    """A PNG of some hundred bytes that declares side x side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
