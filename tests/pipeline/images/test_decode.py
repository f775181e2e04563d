from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from pipeline.contract.errors import RowError
from pipeline.contract.image_formats import SUFFIXES_BY_FORMAT
from pipeline.contract.record import Outcome
from pipeline.images import ImageLimits, load_image
from pipeline.images.decode import decode_image
from pipeline.images.encoded import ENCODED
from pipeline.sources import Kind, list_input
from pipeline.storage.location import locate
from tests.pipeline.sample_images import bomb_png, encoded, noisy_jpeg, plain, truncated_jpeg

MAX_PIXELS = 10**6
RED = (200, 30, 40)
BROKEN = {
    "not an image": b"these are not the bytes of an image",
    "truncated JPEG": truncated_jpeg(),
    "truncated PNG": encoded(Image.effect_noise((64, 64), 80), "PNG")[:-600],
    "truncated WebP": encoded(Image.effect_noise((64, 64), 80).convert("RGB"), "WEBP")[:-200],
    "truncated GIF": encoded(Image.effect_noise((64, 64), 80), "GIF")[:-600],
    "damaged PNG": (b"\x89PNG\r\n\x1a\n" + b"\0" * 60),
    "a bomb": bomb_png(),
    "a bomb that Pillow itself refuses": bomb_png(2**31 - 1),
    "more pixels than the limit": encoded(Image.new("L", (1001, 1000)), "PNG"),
    "a format that runs a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "floating point": encoded(Image.new("F", (4, 4)), "TIFF"),
}


def fault_of(body: bytes) -> RowError:
    with pytest.raises(RowError) as error:
        decode_image(body, MAX_PIXELS)
    assert (error.value.outcome, error.value.stage) == (Outcome.DECODE_ERROR, "decode")
    assert "\n" not in str(error.value)
    return error.value


@pytest.mark.parametrize("kind", BROKEN)
def test_an_image_that_cannot_be_decoded_is_a_decode_error(kind: str) -> None:
    assert fault_of(BROKEN[kind])


def test_what_is_no_image_is_called_what_it_is() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    assert ", but a Git LFS pointer in place of a file (63 bytes)" in str(fault_of(pointer))
    assert ", but a web page (" in str(fault_of(b"<!doctype html><title>Sign in</title>"))
    assert "format (3 bytes)" in str(fault_of(b"\xff\xd8\xff"))  # begins like a JPEG


@pytest.mark.parametrize("kind", BROKEN)
def test_the_same_in_a_file(kind: str, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(BROKEN[kind])
    with pytest.raises(RowError) as error:
        load_image("x.jpg", locate(str(tmp_path)), ImageLimits(10**6, MAX_PIXELS))
    assert error.value.outcome is Outcome.DECODE_ERROR


def test_a_jpeg_cut_anywhere_never_gives_an_image() -> None:
    whole = noisy_jpeg()
    for length in range(1, len(whole) - 2, 97):  # without its last two bytes it is still whole
        assert fault_of(whole[:length])


def test_a_bomb_is_refused_without_being_decoded() -> None:
    assert "60000 x 60000 pixels" in str(fault_of(bomb_png()))


def pixel(image: Image.Image, kind: str, **options: object) -> tuple[int, ...]:
    decoded = decode_image(encoded(image, kind, **options), MAX_PIXELS)
    assert decoded.mode == "RGB"
    value = decoded.getpixel((1, 1))
    assert isinstance(value, tuple)
    return value


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_come_through_exactly(kind: str) -> None:
    assert pixel(plain(RED), kind) == RED


FORMAT_OF = {suffix: kind for kind, suffixes in SUFFIXES_BY_FORMAT.items() for suffix in suffixes}
AS_WRITTEN = {"MPO": "JPEG"}
"""What Pillow writes in place of a format that it only reads."""


@pytest.mark.parametrize("suffix", [*FORMAT_OF, ".JPG", ".HeIc", ".TIF"])
def test_a_file_of_every_suffix_that_is_listed_is_decoded(tmp_path: Path, suffix: str) -> None:
    kind = FORMAT_OF[suffix.lower()]
    if kind == "JXL":
        pytest.importorskip("pillow_jxl")
    body = encoded(plain(RED), AS_WRITTEN.get(kind, kind))
    (tmp_path / f"x{suffix}").write_bytes(body)
    listing = list_input(str(tmp_path))
    assert listing.kind is Kind.IMAGES
    (file,) = listing.files
    image = load_image(file.path, listing.root, ImageLimits(10**6, MAX_PIXELS))
    assert (image.size, image.mode) == ((32, 24), "RGB")
    assert np.abs(np.subtract(image.getpixel((9, 9)), RED)).max() <= 4


def test_a_heic_is_upright_and_laid_on_white_and_a_broken_one_fails() -> None:
    lying = plain((0, 0, 255), size=(40, 20))
    lying.paste(RED, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    body = encoded(lying, "HEIF", quality=95, exif=exif.tobytes())
    upright = decode_image(body, MAX_PIXELS)
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5))[0] > 150  # type: ignore[index]
    assert pixel(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), "HEIF") == (255, 255, 255)
    assert "pixels, more than" in str(fault_of(encoded(Image.new("L", (1001, 1000)), "HEIF")))
    noisy = encoded(Image.effect_noise((64, 64), 80).convert("RGB"), "HEIF")
    for length in (40, len(noisy) // 2, len(noisy) - 100):
        assert fault_of(noisy[:length])


def test_an_avif_is_upright_and_laid_on_white() -> None:
    lying = plain((0, 0, 255), size=(40, 20))
    lying.paste(RED, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode_image(encoded(lying, "AVIF", quality=95, exif=exif), MAX_PIXELS)
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5))[0] > 150  # type: ignore[index]
    assert pixel(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), "AVIF") == (255, 255, 255)


def test_a_heic_of_10_bits_has_the_colours_of_one_of_8() -> None:
    levels = np.full((24, 32, 3), [level * 257 for level in RED], np.uint16)
    deep = pillow_heif.from_bytes("RGB;16", (32, 24), levels.tobytes())
    buffer = io.BytesIO()
    deep.save(buffer, quality=95)  # 10 bits, unless told otherwise
    assert pillow_heif.open_heif(buffer, convert_hdr_to_8bit=False).info["bit_depth"] == 10
    image = decode_image(buffer.getvalue(), MAX_PIXELS)
    assert np.abs(np.subtract(image.getpixel((9, 9)), RED)).max() <= 4


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "AVIF", "JPEG2000"])
def test_lossy_formats_come_through(kind: str) -> None:
    assert np.abs(np.subtract(pixel(plain(RED), kind), RED)).max() <= 4


def test_alpha_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert pixel(clear, "PNG") == (255, 255, 255)
    assert pixel(half, "PNG") == (127, 127, 127)
    assert pixel(Image.new("LA", (4, 4), (0, 0)), "PNG") == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, *RED])
    assert pixel(palette, "PNG", transparency=0) == (255, 255, 255)
    assert pixel(palette, "PNG") == (0, 0, 0)


def test_cmyk_palette_grey_and_16_bit() -> None:
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    assert pixel(red.convert("CMYK"), "TIFF") == (255, 0, 0)
    assert pixel(red.convert("P"), "PNG") == (255, 0, 0)
    assert pixel(Image.new("L", (4, 4), 77), "PNG") == (77, 77, 77)
    assert pixel(Image.new("1", (4, 4), 1), "PNG") == (255, 255, 255)
    deep = Image.fromarray(np.full((4, 4), 0x4D12, np.uint16))
    assert pixel(deep, "PNG") == (0x4D, 0x4D, 0x4D)
    assert pixel(deep, "TIFF") == (0x4D, 0x4D, 0x4D)


def tiff(pixels: bytes, bits: int, kind: int = 1, photometric: int = 1) -> bytes:
    """A grey TIFF of 4 x 4 pixels, which are stored as these bytes."""
    tags = ((256, 4), (257, 4), (258, bits), (259, 1), (262, photometric), (273, 134))
    tags = (*tags, (277, 1), (278, 4), (279, len(pixels)), (339, kind))
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries
    return head.ljust(134, b"\0") + pixels


@pytest.mark.parametrize(
    ("level", "bits", "photometric", "grey"),
    [(0x4D12, 16, 1, 0x4D), (0x4D12, 16, 0, 0xB2), (0xFFFF, 16, 0, 0), (0x4D1, 12, 1, 0x4D)],
)
def test_wide_grey_pixels_are_as_the_tags_of_a_tiff_say(
    level: int, bits: int, photometric: int, grey: int
) -> None:
    pixels = struct.pack("<H", level) * 16
    if bits == 12:  # two of them in three bytes
        pixels = (level << 12 | level).to_bytes(3, "big") * 8
    image = decode_image(tiff(pixels, bits, photometric=photometric), MAX_PIXELS)
    assert image.getpixel((1, 1)) == (grey, grey, grey)


@pytest.mark.parametrize(("bits", "kind"), [(16, 2), (32, 1), (32, 2)])
def test_pixels_without_an_agreed_range_are_refused(bits: int, kind: int) -> None:
    with pytest.raises(RowError, match="signed or of 32 bits have no agreed range"):
        decode_image(tiff(b"\1" * (2 * bits), bits, kind), MAX_PIXELS)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [plain(colour) for colour in (RED, (0, 255, 0), (0, 0, 255))]
    for kind in ("GIF", "PNG", "WEBP"):
        found = pixel(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(np.subtract(found, RED)).max() <= 4


def test_exif_orientation_turns_the_image_upright() -> None:
    lying = plain((0, 0, 255), size=(40, 20))
    lying.paste(RED, (0, 0, 20, 20))  # left half red; upright, that is the upper half
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode_image(encoded(lying, "JPEG", quality=95, exif=exif), MAX_PIXELS)
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5))[0] > 150  # type: ignore[index]
    assert upright.getpixel((10, 35))[2] > 200  # type: ignore[index]


TURNED = [1, 2, 3, 4, 5, 6, 7, 8]
MALFORMED = {"no text": (282, "72"), "too large": (259, 70000), "no number": (256, "wide")}


@pytest.mark.parametrize("orientation", TURNED)
def test_every_orientation_is_as_pillow_turns_it(orientation: int) -> None:
    lying = plain((0, 0, 255), size=(40, 24))
    lying.paste(RED, (0, 0, 13, 9))
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = encoded(lying, "PNG", exif=exif)
    due = ImageOps.exif_transpose(Image.open(io.BytesIO(body)))
    assert decode_image(body, MAX_PIXELS).tobytes() == due.convert("RGB").tobytes()


@pytest.mark.parametrize("fault", MALFORMED)
def test_another_tag_that_is_malformed_costs_no_image(fault: str) -> None:
    tag, value = MALFORMED[fault]
    tiff = TiffImagePlugin.ImageFileDirectory_v2()
    tiff[0x0112] = 6
    tiff.tagtype[tag] = 4 if isinstance(value, int) else 2  # LONG, ASCII
    tiff[tag] = value
    stream = io.BytesIO(b"II*\x00\x08\x00\x00\x00")
    stream.seek(8)
    tiff.save(stream)
    exif = b"Exif\x00\x00" + stream.getvalue()
    body = encoded(plain(RED, size=(40, 20)), "JPEG", exif=exif)
    with pytest.raises((TypeError, ValueError, struct.error)):
        ImageOps.exif_transpose(Image.open(io.BytesIO(body)))
    assert decode_image(body, MAX_PIXELS).size == (20, 40)


def test_bytes_stay_with_an_image_only_if_that_is_wanted() -> None:
    body = encoded(plain(RED), "JPEG")
    assert ENCODED not in decode_image(body, MAX_PIXELS).info
    assert decode_image(body, MAX_PIXELS, keep_encoded=True).info[ENCODED].body == body
