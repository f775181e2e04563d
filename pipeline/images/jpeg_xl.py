"""Decides how large a JPEG XL image is and how its decoder turns it, by its first bytes.

Pillow's plugin decodes an image as soon as it is opened, so one that is too large must be known
before. The decoder turns an image as its codestream says, which Exif must not do again; where the
codestream says nothing, as in what Pillow writes, Exif counts as in other formats.

The bits are those of ISO/IEC 18181-1 (`SizeHeader`, `ImageMetadata`), the boxes of 18181-2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CODESTREAM = b"\xff\x0a"
CONTAINER = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
BITS = 16
"""Bytes of a codestream that hold all that is read of it: at most 73 bits."""
LENGTHS = (9, 13, 18, 30)
"""Bits of a side's length less one, by the two bits before them."""
RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width to height, from ratio 1 on; ratio 0 is none of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegXl:
    """What the first bits of an image say.

    Attributes:
        width: In pixels, before it is turned.
        height: Likewise.
        orientation: As Exif numbers it; 1 is upright.
    """

    width: int
    height: int
    orientation: int


def jpeg_xl(body: bytes) -> JpegXl | None:
    """What a JPEG XL image declares; None for any other bytes, and where it has no codestream."""
    stream = _codestream(body)
    if stream is None or not stream.startswith(CODESTREAM):
        return None
    bits = _Bits(stream[len(CODESTREAM) :])
    is_small = bits.take(1)
    height = _side(bits, is_small)
    ratio = bits.take(3)
    if ratio:
        across, down = RATIOS[ratio - 1]
        width = height * across // down
    else:
        width = _side(bits, is_small)
    is_default, has_more = bits.take(1), bits.take(1)
    orientation = 1 + bits.take(3) if has_more and not is_default else 1
    return JpegXl(width=width, height=height, orientation=orientation)


def _codestream(body: bytes) -> bytes | None:
    """The first bytes of the codestream: those of the file, or of boxes that may be short."""
    if body.startswith(CODESTREAM):
        return body[:BITS]
    if not body.startswith(CONTAINER):
        return None
    stream = b""
    for kind, content in _boxes(body):
        if kind in (b"jxlc", b"jxlp"):
            stream += content[4 * (kind == b"jxlp") :]  # after the part's number
        if kind == b"jxlc" or len(stream) >= BITS:
            break
    return stream or None


def _boxes(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each box's kind and the first bytes of its content."""
    at = 0
    while at + 8 <= len(body):
        size, kind, head = int.from_bytes(body[at : at + 4], "big"), body[at + 4 : at + 8], 8
        if size == 1:  # it follows the kind
            size, head = int.from_bytes(body[at + 8 : at + 16], "big"), 16
        end = at + size if size else len(body)  # 0: the last box
        yield kind, body[at + head : min(end, at + head + BITS + 4)]
        at = max(end, at + head)


class _Bits:
    """Bits in their order, the lowest of each byte first; beyond the end they are 0."""

    def __init__(self, body: bytes) -> None:
        self._rest = int.from_bytes(body, "little")

    def take(self, count: int) -> int:
        """The next ones as a number, the first of them the lowest."""
        value = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return value


def _side(bits: _Bits, is_small: int) -> int:
    """A width or a height."""
    if is_small:
        return 8 * (1 + bits.take(5))
    return 1 + bits.take(LENGTHS[bits.take(2)])
