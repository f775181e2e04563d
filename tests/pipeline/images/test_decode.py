from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.images import decode as images
from pipeline.images.decode import ImageLimits, load_image
from pipeline.storage.location import Location, locate
from tests.pipeline.sample_images import bomb_png, encoded, jpeg, noisy_jpeg, plain, truncated_jpeg
from tests.pipeline.server import in_turn, respond, serving
from tests.stores import S3

LIMITS = ImageLimits(max_bytes=10**6, max_pixels=10**6)
RED = (200, 30, 40)


@pytest.fixture
def root(tmp_path: Path) -> Location:
    return locate(str(tmp_path))


def fault_of(value: object, root: Location, limits: ImageLimits = LIMITS) -> RowError:
    with pytest.raises(RowError) as error:
        load_image(value, root, limits)
    assert "\n" not in str(error.value)
    return error.value


MISSING = {
    "null": None,
    "null struct": {"bytes": None, "path": None},
    "no file": "absent.jpg",
    "no file, in a struct": {"bytes": None, "path": "absent.jpg"},
    "a folder": "folder",
    "an empty path": "",
    "a path with a null byte": "a\0b.jpg",
    "a URI that no store takes": "ftp://example.org/x.jpg",
    "a link to this machine": "http://127.0.0.1/x.jpg",
    "a link to the metadata service": "http://169.254.169.254/latest/meta-data/",
    "a link that cannot be read": "https://",
    "no file behind a URI": "file:///there/is/no/such.jpg",
}
BROKEN = {
    "no bytes": b"",
    "no bytes, in a struct": {"bytes": b"", "path": "good.jpg"},
    "not an image": b"these are not the bytes of an image",
    "truncated JPEG": truncated_jpeg(),
    "truncated PNG": encoded(Image.effect_noise((64, 64), 80), "PNG")[:-600],
    "truncated WebP": encoded(Image.effect_noise((64, 64), 80).convert("RGB"), "WEBP")[:-200],
    "truncated GIF": encoded(Image.effect_noise((64, 64), 80), "GIF")[:-600],
    "damaged PNG": (b"\x89PNG\r\n\x1a\n" + b"\0" * 60),
    "a bomb": bomb_png(),
    "a bomb that Pillow itself refuses": bomb_png(2**31 - 1),
    "more pixels than the limit": encoded(Image.new("L", (1001, 1000)), "PNG"),
    "more bytes than the limit": jpeg() + b"\0" * 10**6,
    "a format that runs a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "floating point": encoded(Image.new("F", (4, 4)), "TIFF"),
}


@pytest.mark.parametrize("kind", MISSING)
def test_a_image_that_is_not_there_is_missing_input(kind: str, root: Location) -> None:
    (Path(root.path) / "folder").mkdir()
    fault = fault_of(MISSING[kind], root)
    assert (fault.outcome, fault.stage) == (Outcome.MISSING_INPUT, "fetch")


@pytest.mark.parametrize("kind", BROKEN)
def test_a_image_that_cannot_be_read_is_a_decode_error(kind: str, root: Location) -> None:
    assert fault_of(BROKEN[kind], root).outcome is Outcome.DECODE_ERROR


@pytest.mark.parametrize("kind", BROKEN)
def test_the_same_in_a_file(kind: str, root: Location) -> None:
    body = BROKEN[kind]
    (Path(root.path) / "x.jpg").write_bytes(body if isinstance(body, bytes) else b"")
    assert fault_of("x.jpg", root).outcome is Outcome.DECODE_ERROR


def test_a_jpeg_cut_anywhere_never_gives_a_image(root: Location) -> None:
    whole = noisy_jpeg()
    for length in range(1, len(whole) - 2, 97):  # without its last two bytes it is still whole
        assert fault_of(whole[:length], root).outcome is Outcome.DECODE_ERROR


def test_a_bomb_is_refused_without_being_decoded(root: Location) -> None:
    assert "60000 x 60000 pixels" in str(fault_of(bomb_png(), root))


def test_limits_themselves_are_allowed(root: Location) -> None:
    body = encoded(plain(size=(50, 20)), "PNG")
    exact = ImageLimits(max_bytes=len(body), max_pixels=1000)
    assert load_image(body, root, exact).size == (50, 20)
    assert fault_of(body, root, ImageLimits(len(body) - 1, 1000)).stage == "fetch"
    assert fault_of(body, root, ImageLimits(len(body), 999)).stage == "decode"


def pixel(image: Image.Image, kind: str, root: Location, **options: object) -> tuple[int, ...]:
    decoded = load_image(encoded(image, kind, **options), root, LIMITS)
    assert decoded.mode == "RGB"
    value = decoded.getpixel((1, 1))
    assert isinstance(value, tuple)
    return value


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_come_through_exactly(kind: str, root: Location) -> None:
    assert pixel(plain(RED), kind, root) == RED


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "AVIF", "JPEG2000"])
def test_lossy_formats_come_through(kind: str, root: Location) -> None:
    assert np.abs(np.subtract(pixel(plain(RED), kind, root), RED)).max() <= 4


def test_alpha_is_laid_on_white(root: Location) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert pixel(clear, "PNG", root) == (255, 255, 255)
    assert pixel(half, "PNG", root) == (127, 127, 127)
    assert pixel(Image.new("LA", (4, 4), (0, 0)), "PNG", root) == (255, 255, 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, *RED])
    assert pixel(palette, "PNG", root, transparency=0) == (255, 255, 255)
    assert pixel(palette, "PNG", root) == (0, 0, 0)


def test_cmyk_palette_grey_and_16_bit(root: Location) -> None:
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    assert pixel(red.convert("CMYK"), "TIFF", root) == (255, 0, 0)
    assert pixel(red.convert("P"), "PNG", root) == (255, 0, 0)
    assert pixel(Image.new("L", (4, 4), 77), "PNG", root) == (77, 77, 77)
    assert pixel(Image.new("1", (4, 4), 1), "PNG", root) == (255, 255, 255)
    deep = Image.fromarray(np.full((4, 4), 0x4D12, np.uint16))
    assert pixel(deep, "PNG", root) == (0x4D, 0x4D, 0x4D)
    assert pixel(deep, "TIFF", root) == (0x4D, 0x4D, 0x4D)


def test_an_animation_gives_its_first_frame(root: Location) -> None:
    frames = [plain(colour) for colour in (RED, (0, 255, 0), (0, 0, 255))]
    for kind in ("GIF", "PNG", "WEBP"):
        found = pixel(frames[0], kind, root, save_all=True, append_images=frames[1:])
        assert np.abs(np.subtract(found, RED)).max() <= 4


def test_exif_orientation_turns_the_image_upright(root: Location) -> None:
    lying = plain((0, 0, 255), size=(40, 20))
    lying.paste(RED, (0, 0, 20, 20))  # left half red; upright, that is the upper half
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = load_image(encoded(lying, "JPEG", quality=95, exif=exif), root, LIMITS)
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5))[0] > 150  # type: ignore[index]
    assert upright.getpixel((10, 35))[2] > 200  # type: ignore[index]


def test_a_path_is_absolute_or_from_the_root(root: Location, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/x.png").write_bytes(encoded(plain(RED), "PNG"))
    for value in ("sub/x.png", str(tmp_path / "sub/x.png"), {"bytes": None, "path": "sub/x.png"}):
        assert load_image(value, root, LIMITS).getpixel((0, 0)) == RED


def test_inline_bytes_come_before_the_path(root: Location) -> None:
    value = {"bytes": encoded(plain(RED), "PNG"), "path": "absent.png"}
    assert load_image(value, root, LIMITS).getpixel((0, 0)) == RED


def test_a_uri_names_its_own_store(root: Location, tmp_path: Path, s3: S3) -> None:
    body = encoded(plain(RED), "PNG")
    (tmp_path / "x.png").write_bytes(body)
    place = locate(s3.url)
    (place / "in/x.png").fs.pipe_file((place / "in/x.png").path, body)
    on_s3 = f"s3://{place.path}/in/x.png"
    for where in (root, place / "in"):
        for value in (f"file://{tmp_path}/x.png", on_s3, {"bytes": None, "path": on_s3}, "x.png"):
            assert load_image(value, where, LIMITS).getpixel((0, 0)) == RED


def test_faults_of_a_store_and_their_outcomes(root: Location, s3: S3) -> None:
    place = locate(s3.url)
    place.fs.pipe({f"{place.path}/empty.jpg": b"", f"{place.path}/long.jpg": b"x" * 1001})
    limits = ImageLimits(max_bytes=1000, max_pixels=100)
    for name, outcome, text in (
        ("absent.jpg", Outcome.MISSING_INPUT, "there is no file"),
        ("empty.jpg", Outcome.DECODE_ERROR, "no bytes"),
        ("long.jpg", Outcome.DECODE_ERROR, "more than the limit of 1,000"),
    ):
        fault = fault_of(f"s3://{place.path}/{name}", root, limits)
        assert (fault.outcome, fault.stage) == (outcome, "fetch")
        assert text in str(fault)
    before = len(s3.requests())
    fault_of("long.jpg", place, limits)
    assert s3.requests()[before:] == [f"GET /{place.path}/long.jpg"]  # one request, no HEAD


def test_a_store_that_fails_for_a_while_is_tried_again(
    root: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "FIRST_PAUSE_S", 0.01)
    failing = respond(500, b"<Error><Code>InternalError</Code></Error>")
    body = encoded(plain(RED), "PNG")
    with serving() as server:
        s3 = {
            "endpoint_url": server.url(""),
            "key": "k",
            "secret": "open-sesame",
            "config_kwargs": {"retries": {"mode": "standard", "max_attempts": 1}},
        }
        limits = ImageLimits(10**6, 10**6, fetch_seconds=20, storage_options={"s3": s3})
        server.routes["/b/x.png"] = in_turn(failing, failing, respond(200, body))
        assert load_image("s3://b/x.png", root, limits).getpixel((0, 0)) == RED
        server.routes["/b/x.png"] = respond(403, b"<Error><Code>AccessDenied</Code></Error>")
        assert "PermissionError" in str(fault_of("s3://b/x.png", root, limits))
        server.routes["/b/x.png"] = failing
        hasty = ImageLimits(10**6, 10**6, fetch_seconds=1, storage_options={"s3": s3})
        fault = fault_of("s3://b/x.png", root, hasty)
    assert fault.outcome is Outcome.MISSING_INPUT
    assert "s3://b/x.png cannot be read" in str(fault)


def test_a_store_that_is_silent_does_not_hold_a_row_for_ever(root: Location) -> None:
    with serving() as server:
        server.routes["/b/x.png"] = lambda _: time.sleep(5)
        s3 = {"endpoint_url": server.url(""), "key": "k", "secret": "open-sesame"}
        limits = ImageLimits(10**6, 10**6, fetch_seconds=0.5, storage_options={"s3": s3})
        begin = time.monotonic()
        assert fault_of("s3://b/x.png", root, limits).outcome is Outcome.MISSING_INPUT
        assert time.monotonic() - begin < 3


def test_a_link_is_fetched_and_decoded(root: Location) -> None:
    limits = ImageLimits(10**6, 10**6, allow_private=True)
    with serving() as server:
        server.routes |= {
            "/x.png": respond(200, encoded(plain(RED), "PNG")),
            "/page": respond(200, b"<html>not an image</html>"),
            "/empty": respond(200),
        }
        for value in (
            server.url("/x.png"),
            {"bytes": None, "path": server.url("/x.png", scheme="HTTP")},
        ):
            assert load_image(value, root, limits).getpixel((0, 0)) == RED
        outcomes = {
            path: fault_of(server.url(path), root, limits).outcome
            for path in ("/absent", "/page", "/empty")
        }
    assert outcomes == {
        "/absent": Outcome.MISSING_INPUT,
        "/page": Outcome.DECODE_ERROR,
        "/empty": Outcome.DECODE_ERROR,
    }


def test_no_credential_gets_into_an_error(root: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_open_sesame")
    for value in (
        "http://user:open-sesame@127.0.0.1/x.jpg?X-Amz-Signature=open-sesame",
        "ftp://user:open-sesame@host/x.jpg",
        "file:///absent.jpg?open-sesame",
        "absent/hf_open_sesame.jpg",
    ):
        assert "sesame" not in str(fault_of(value, root))
