"""Videos for the tests, encoded with PyAV, good and broken, as bytes.

Each frame of a numbered video is of one colour, by which its number can be read again.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from PIL import Image

SIZE = (64, 48)
CODECS = {"mp4": "libx264", "mov": "libx264", "matroska": "libx264", "webm": "libvpx-vp9"}
LEVELS = (30, 90, 150, 210)
"""Of each channel: far enough from each other to be told apart after encoding."""


def colour_of(number: int) -> tuple[int, int, int]:
    """The colour of a frame: its number in base 4."""
    return LEVELS[number // 16 % 4], LEVELS[number // 4 % 4], LEVELS[number % 4]


def number_of(image: Image.Image) -> int:
    """The number of the frame that an image is, by the colour of its middle."""
    pixel = image.getpixel((image.width // 2, image.height // 2))
    assert isinstance(pixel, tuple)
    red, green, blue = (min(range(4), key=lambda n: abs(LEVELS[n] - level)) for level in pixel)
    return 16 * red + 4 * green + blue


def plain_frames(numbers: Iterable[int], size: tuple[int, int] = SIZE) -> list[Image.Image]:
    """Images of one colour each."""
    return [Image.new("RGB", size, colour_of(number)) for number in numbers]


ONE_AFTER_ANOTHER = "log-level=none:bframes=0:pools=none:frame-threads=1"
"""On a busy machine x265's threads gave frames in an order that the format refuses."""


def encoded_video(
    images: Sequence[Image.Image],
    *,
    starts: Sequence[float] | None = None,
    fps: int = 10,
    kind: str = "mp4",
    codec: str | None = None,
    pix_fmt: str = "yuv420p",
    keys_every: int = 5,
    rotation: int = 0,
    stretch: Fraction | None = None,
    colours: dict[str, int] | None = None,
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> bytes:
    """A video of images.

    Args:
        images: The frames.
        starts: When each appears, in seconds; by default `fps` of them a second.
        fps: Frames a second.
        kind: FFmpeg's name of the format.
        codec: By default what is usual there.
        pix_fmt: FFmpeg's name of how pixels are stored.
        keys_every: Frames from one keyframe to the next.
        rotation: Degrees counter-clockwise, as the display matrix says.
        stretch: Width of a pixel over its height.
        colours: Numbers of `colorspace`, `color_trc` and so on, for frames and stream.
        sound: Whether it has a second of silence.
        options: Of the format.
    """
    with _written(kind, options) as (container, bodies):
        stream: Any = container.add_stream(codec or CODECS[kind], rate=fps)
        stream.width, stream.height = images[0].size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = keys_every
        stream.options = {"x265-params": ONE_AFTER_ANOTHER} if codec == "libx265" else {}
        if stretch is not None:
            stream.codec_context.sample_aspect_ratio = stretch
        if rotation:
            stream.set_display_rotation(rotation)
        for name, value in (colours or {}).items():
            setattr(stream.codec_context, name, value)
        track: Any = container.add_stream("aac", rate=16_000) if sound else None
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_image(image)
            frame.pts = round(1000 * (number / fps if starts is None else starts[number]))
            frame.time_base = Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        container.mux(stream.encode())
        if track is not None:
            container.mux([*track.encode(silence()), *track.encode()])
    return bodies[0]


@contextlib.contextmanager
def _written(kind: str, options: dict[str, str] | None) -> Iterator[tuple[Any, list[bytes]]]:
    """A container to write to, and where its bytes are afterwards. Some are written twice over."""
    bodies: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video"
        with av.open(str(path), "w", format=kind, options=options or {}) as container:
            yield container, bodies
        bodies.append(path.read_bytes())


def silence() -> Any:
    """A second of it."""
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), "fltp", "mono")
    frame.sample_rate = 16_000
    frame.pts = 0
    return frame


def numbered_video(count: int, **how: Any) -> bytes:
    """A video of so many frames, each in the colour of its number."""
    return encoded_video(plain_frames(range(count)), **how)


def sound_alone(cover: Image.Image | None = None) -> bytes:
    """An `.m4a` with a second of silence, and perhaps a cover."""
    with _written("mp4", None) as (container, bodies):
        track: Any = container.add_stream("aac", rate=16_000)
        picture: Any = None
        if cover is not None:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = *cover.size, "yuvj420p"
            picture.disposition = Disposition.attached_pic
        container.mux([*track.encode(silence()), *track.encode()])
        if cover is not None:
            frame = av.VideoFrame.from_image(cover)
            container.mux([*picture.encode(frame), *picture.encode()])
    return bodies[0]
