"""JPEG XL, which the extra `images` decodes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.contract.errors import RowError
from pipeline.images.decode import decode_image
from pipeline.images.jpeg_xl import CONTAINER, JpegXl, jpeg_xl
from tests.pipeline.sample_images import encoded, noisy_jpeg, plain

MAX_PIXELS = 10**6
RED, BLUE = (200, 30, 40), (0, 0, 255)
TURNED = 6
"""Exif's number for an image whose top is at the right."""


def lying() -> tuple[Image.Image, Image.Exif]:
    """Left half red; upright, that is the upper half."""
    image = plain(BLUE, size=(40, 20))
    image.paste(RED, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = TURNED
    return image, exif


def bits(*fields: tuple[int, int]) -> bytes:
    """Numbers and how many bits each takes, the lowest first."""
    whole = at = 0
    for value, count in fields:
        whole, at = whole | value << at, at + count
    return b"\xff\x0a" + whole.to_bytes(14, "little")


def test_size_and_orientation_are_those_of_the_standard() -> None:
    small = bits((1, 1), (7, 5), (7, 3), (1, 1))
    assert jpeg_xl(small) == JpegXl(width=128, height=64, orientation=1)
    turned = bits((0, 1), (1, 2), (999, 13), (0, 3), (3, 2), (59_999, 30), (0, 1), (1, 1), (5, 3))
    expected = JpegXl(width=60_000, height=1000, orientation=TURNED)
    assert jpeg_xl(turned) == expected
    for kind, number in ((b"jxlc", b""), (b"jxlp", bytes(4))):
        box = (8 + len(number) + len(turned)).to_bytes(4, "big") + kind + number + turned
        large = b"\0\0\0\1Exif" + (26).to_bytes(8, "big") + bytes(10)
        assert jpeg_xl(CONTAINER + b"\0\0\0\x0cftypjxl " + large + box) == expected
    parts = (b"\0\0\0\x0fjxlp" + bytes(4) + turned[:3], b"\0\0\0\0jxlp\0\0\0\1" + turned[3:])
    exif = b"\0\0\0\x0cExif" + b"\xff" * 4
    assert jpeg_xl(CONTAINER + exif.join(parts)) == expected
    for other in (b"", b"\xff", CONTAINER, CONTAINER + bytes(20), noisy_jpeg()):
        assert jpeg_xl(other) is None


def test_a_bomb_is_refused_without_being_decoded() -> None:
    body = bits((0, 1), (3, 2), (59_999, 30), (1, 3), (1, 1)) + bytes(100)
    with pytest.raises(RowError, match="60000 x 60000 pixels, more than the limit of 1,000,000"):
        decode_image(body, MAX_PIXELS)


def test_without_the_plugin_the_row_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "x.jxl").write_bytes(bits((1, 1), (7, 5), (1, 3), (1, 1)) + bytes(100))
    code = (
        "import sys; sys.modules['pillow_jxl'] = None\n"
        "from pipeline.images.decode import decode_image\n"
        "try: decode_image(open(sys.argv[1], 'rb').read(), 10**6)\n"
        "except Exception as error: print(error.outcome, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "x.jxl"], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        "decode_error decode: the image is JPEG XL; install gemma3-batch[images], which has its "
        "decoder\n"
    )


class TestDecoded:
    @pytest.fixture(autouse=True)
    def plugin(self) -> None:
        pytest.importorskip("pillow_jxl")

    def test_sizes_are_known_before_decoding(self) -> None:
        for size in ((8, 8), (40, 20), (1, 300), (640, 480), (1001, 7)):
            body = encoded(plain(RED, size), "JXL")
            assert jpeg_xl(body) == JpegXl(width=size[0], height=size[1], orientation=1)
            assert decode_image(body, MAX_PIXELS).size == size

    def test_colours_alpha_and_grey(self) -> None:
        def pixel(image: Image.Image) -> tuple[int, ...]:
            decoded = decode_image(encoded(image, "JXL", lossless=True), MAX_PIXELS)
            assert decoded.mode == "RGB"
            return decoded.getpixel((1, 1))  # type: ignore[return-value]

        assert pixel(plain(RED)) == RED
        assert pixel(Image.new("RGBA", (9, 9), (0, 0, 0, 128))) == (127, 127, 127)
        assert pixel(Image.new("RGBA", (9, 9), (0, 0, 0, 0))) == (255, 255, 255)
        assert pixel(Image.new("L", (9, 9), 77)) == (77, 77, 77)
        deep = Image.fromarray(np.full((9, 9), 0x4D12, np.uint16))
        assert pixel(deep) == (0x4D, 0x4D, 0x4D)

    def test_exif_turns_it_where_the_codestream_does_not(self, tmp_path: Path) -> None:
        image, exif = lying()
        image.save(tmp_path / "x.jpg", quality=95, exif=exif)
        packed = encoded(Image.open(tmp_path / "x.jpg"), "JXL")  # a JPEG without loss
        for body in (encoded(image, "JXL", exif=exif.tobytes(), use_container=True), packed):
            upright = decode_image(body, MAX_PIXELS)
            assert upright.size == (20, 40)
            assert upright.getpixel((10, 5))[0] > 150  # type: ignore[index]

    def test_a_broken_one_fails(self) -> None:
        body = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), "JXL")
        for length in (2, 40, len(body) // 2, len(body) - 100):
            with pytest.raises(RowError):
                decode_image(body[:length], MAX_PIXELS)
