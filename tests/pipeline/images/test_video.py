"""Videos to images, with the real decoder: which frames, when, their looks, and what is refused."""

from __future__ import annotations

import contextlib
import io
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.images import Frame, ImageLimits, load_video
from pipeline.images import video as module
from pipeline.images.video import decode_video
from pipeline.storage.location import locate
from tests.pipeline.sample_images import jpeg
from tests.pipeline.sample_videos import (
    colour_of,
    encoded_video,
    number_of,
    numbered_video,
    plain_frames,
    sound_alone,
)

PIXELS = 10**6


def decoded(body: bytes, most: int = 4, fps: float | None = None, **limits: Any) -> list[Frame]:
    limits = {"max_pixels": PIXELS, "seconds": 60.0} | limits
    return [*decode_video(io.BytesIO(body), most=most, fps=fps, **limits)]


def shown(frames: list[Frame]) -> list[tuple[int, float]]:
    return [(number_of(frame.image), round(frame.seconds, 3)) for frame in frames]


def fault_of(body: bytes, **how: Any) -> str:
    with pytest.raises(RowError) as error:
        decoded(body, **how)
    assert (error.value.outcome, error.value.stage) == (Outcome.DECODE_ERROR, "decode")
    return error.value.message


@pytest.mark.parametrize("kind", ["mp4", "mov", "matroska", "webm"])
def test_frames_are_right_by_number_and_time(kind: str) -> None:
    body = numbered_video(40, kind=kind, sound=kind == "mp4")
    assert shown(decoded(body)) == [(5, 0.5), (15, 1.5), (25, 2.5), (35, 3.5)]
    assert shown(decoded(body, most=24, fps=0.5)) == [(10, 1.0), (30, 3.0)]
    assert [number for number, _ in shown(decoded(body, most=60))] == [*range(40)]


@pytest.mark.parametrize("keys_every", [1, 7, 1000])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "mpeg4"])
def test_decoding_begins_at_any_keyframe(codec: str, keys_every: int) -> None:
    """Also with frames that refer to later ones, of which `libx264` makes three in a row."""
    body = numbered_video(40, codec=codec, keys_every=keys_every)
    assert shown(decoded(body)) == [(5, 0.5), (15, 1.5), (25, 2.5), (35, 3.5)]


def test_few_frames_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long video only the stretch from each keyframe to its frame."""
    counted: list[int] = []
    right = module._Reader._decoded

    def decode(self: Any) -> Any:
        for frame in right(self):
            counted.append(frame.pts)
            yield frame

    monkeypatch.setattr(module._Reader, "_decoded", decode)
    decoded(numbered_video(60, keys_every=6), most=2)
    assert 2 <= len(counted) <= 12


def test_the_rate_may_vary() -> None:
    starts = [0.0, 0.1, 0.2, 1.0, 1.9, 2.0, 2.05, 5.0, 5.1, 7.9]
    body = encoded_video(plain_frames(range(10)), starts=starts, kind="matroska")
    assert shown(decoded(body)) == [(3, 1.0), (6, 2.05), (8, 5.1)]


def test_a_recorded_stream_has_no_duration_and_no_index() -> None:
    whole = decoded(numbered_video(40, kind="matroska"))
    live = numbered_video(40, kind="matroska", options={"live": "1"})
    parts = numbered_video(40, options={"movflags": "frag_keyframe+empty_moov"})
    assert shown(decoded(live)) == shown(decoded(parts)) == shown(whole)


def test_a_format_that_cannot_go_to_a_keyframe_is_decoded_from_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its last keyframe is what it gives here, whichever it is asked for."""
    monkeypatch.setattr(module._Index, "key_before", lambda self, _: self.keys[-1])
    assert shown(decoded(numbered_video(40))) == [(5, 0.5), (15, 1.5), (25, 2.5), (35, 3.5)]


def corners(image: Image.Image) -> list[int]:
    """Numbers of the colours: upper left, upper right, lower left, lower right."""
    width, height = image.size
    places = [(x, y) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [number_of(image.crop((x - 2, y - 2, x + 3, y + 3))) for x, y in places]


def quartered(size: tuple[int, int] = (64, 48)) -> Image.Image:
    image = Image.new("RGB", size)
    width, height = size[0] // 2, size[1] // 2
    for number, colour in enumerate((3, 12, 48, 63)):
        box = (number % 2 * width, number // 2 * height)
        image.paste(colour_of(colour), (*box, box[0] + width, box[1] + height))
    return image


@pytest.mark.parametrize(
    ("rotation", "size", "expected"),
    [
        (0, (64, 48), [3, 12, 48, 63]),
        (90, (48, 64), [12, 63, 3, 48]),  # counter-clockwise
        (180, (64, 48), [63, 48, 12, 3]),
        (-90, (48, 64), [48, 3, 63, 12]),  # as phones held upright write it
    ],
)
def test_frames_are_turned_upright(
    rotation: int, size: tuple[int, int], expected: list[int]
) -> None:
    (frame,) = decoded(encoded_video([quartered()] * 4, rotation=rotation), most=1)
    assert (frame.image.size, corners(frame.image)) == (size, expected)


@pytest.mark.parametrize(
    ("stretch", "size"), [(Fraction(2), (128, 48)), (Fraction(1, 2), (64, 96))]
)
def test_pixels_are_made_square(stretch: Fraction, size: tuple[int, int]) -> None:
    (frame,) = decoded(encoded_video([quartered()] * 4, stretch=stretch), most=1)
    assert (frame.image.size, corners(frame.image)) == (size, [3, 12, 48, 63])


def test_more_than_8_bits_become_8() -> None:
    body = numbered_video(10, codec="libx265", pix_fmt="yuv420p10le")
    assert [number for number, _ in shown(decoded(body, most=10))] == [*range(10)]


@pytest.mark.parametrize(("size", "usual"), [((64, 48), 6), ((1280, 720), 1)])
def test_colours_that_do_not_say_what_they_are_are_those_of_players(
    size: tuple[int, int], usual: int
) -> None:
    """Small ones BT.601 (6), large ones BT.709 (1), which give the same bytes another green."""
    pixels = {}
    for space in (None, 1, 6):
        colours = {"colorspace": space} if space else None
        body = encoded_video([Image.new("RGB", size, (60, 180, 60))] * 2, colours=colours)
        pixels[space] = decoded(body, most=1)[0].image.getpixel((5, 5))
    assert pixels[None] == pixels[usual]
    assert pixels[1] != pixels[6]


@pytest.mark.parametrize(("transfer", "level"), [(1, 128), (16, 182), (18, 138)])
def test_high_dynamic_range_is_mapped(transfer: int, level: int) -> None:
    """The middle of PQ (16) is 92 cd/m2 of the 203 that white has (ITU-R BT.2408): light grey."""
    colours = {"colorspace": 9, "color_trc": transfer, "color_primaries": 9}
    how = {"codec": "libx265", "pix_fmt": "yuv420p10le", "kind": "matroska", "colours": colours}
    body = encoded_video([Image.new("RGB", (64, 48), (128, 128, 128))] * 2, **how)
    pixel = decoded(body, most=1)[0].image.getpixel((5, 5))
    assert isinstance(pixel, tuple)
    assert max(abs(part - level) for part in pixel) < 8


def test_all_images_of_a_video_have_few_pixels_together() -> None:
    body = encoded_video([quartered((640, 480))] * 8)
    (frame,) = decoded(body, most=1, max_pixels=640 * 480)
    assert frame.image.size == (640, 480)
    frames = decoded(body, most=4, max_pixels=640 * 480)
    assert [frame.image.size for frame in frames] == [(320, 240)] * 4
    assert corners(frames[0].image) == [3, 12, 48, 63]


def test_what_is_no_video_is_refused_by_what_it_is() -> None:
    assert fault_of(b"no video at all, but text\n" * 10).startswith("not a video in a known format")
    assert fault_of(jpeg()) == "not a video in a known format, but an image"
    assert fault_of(sound_alone()) == "it has only sound, no video"
    assert fault_of(b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n").startswith("not a video in a known form")


def test_a_cover_is_no_video() -> None:
    """Sound with a picture, as music has it."""
    assert fault_of(sound_alone(cover=quartered())) == "it has only sound, no video"


@pytest.mark.parametrize("kind", ["mp4", "matroska"])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_a_video_that_is_cut_off_is_refused(kind: str, part: float) -> None:
    body = encoded_video([Image.effect_noise((320, 240), 90).convert("RGB")] * 30, kind=kind)
    assert "cut off" in fault_of(body[: int(part * len(body))])


def test_a_cut_off_video_whose_index_comes_first_is_refused() -> None:
    images = [Image.effect_noise((320, 240), 90).convert("RGB") for _ in range(30)]
    body = encoded_video(images, options={"movflags": "faststart"})
    assert shown(decoded(body))
    assert "cut off" in fault_of(body[: len(body) // 2])


def test_damaged_bytes_end_as_an_outcome() -> None:
    body = bytearray(numbered_video(40, kind="matroska"))
    for place in range(0, len(body), 97):
        spoilt = bytes(body[:place]) + bytes(64) + bytes(body[place + 64 :])
        with contextlib.suppress(RowError):
            assert decoded(spoilt)


def test_a_large_frame_is_refused_before_decoding() -> None:
    body = numbered_video(2)
    assert fault_of(body, max_pixels=64 * 48 - 1) == (
        "the video declares 64 x 48 pixels, more than the limit of 3,071"
    )


def test_a_video_that_takes_too_long_is_left() -> None:
    began = time.monotonic()
    assert fault_of(numbered_video(60), seconds=0.0) == "the video takes too long to decode"
    assert time.monotonic() - began < 5


def test_a_cell_is_bytes_a_path_or_both(tmp_path: Path) -> None:
    body, limits = numbered_video(12), ImageLimits(10**6, PIXELS)
    (tmp_path / "a.mp4").write_bytes(body)
    root = locate(str(tmp_path))

    def load(value: object, limits: ImageLimits = limits) -> list[tuple[int, float]]:
        return shown([*load_video(value, root, limits, most=2, fps=None)])

    values = (body, "a.mp4", f"{tmp_path}/a.mp4", f"file://{tmp_path}/a.mp4")
    for value in (*values, {"bytes": body, "path": "b.mp4"}, {"bytes": None, "path": "a.mp4"}):
        assert load(value) == [(3, 0.3), (9, 0.9)]
    for value, outcome, said in (
        (None, Outcome.MISSING_INPUT, "the video is null"),
        ("", Outcome.MISSING_INPUT, "the video's path is empty"),
        ("no.mp4", Outcome.MISSING_INPUT, "there is no file no.mp4"),
        (b"", Outcome.DECODE_ERROR, "the video has no bytes"),
    ):
        with pytest.raises(RowError, match=said) as error:
            load(value)
        assert error.value.outcome is outcome
    tight = ImageLimits(len(body) // 10, PIXELS)
    for value in (body, "a.mp4"):
        with pytest.raises(RowError, match="more than the limit of"):
            load(value, tight)
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(RowError, match="the video has no bytes"):
        load("empty.mp4")
