"""Decides how a video file becomes the images of the frames that are shown.

The file is gone through twice. First its packets are listed, without decoding any: they say when
each frame appears, and which frames decoding can begin with (keyframes). That needs no index and no
duration in the file, which a recorded stream has not, and finds a file that is cut off. Then, for
each frame that is shown, decoding begins at the keyframe before it, or goes on where it is if there
is none between; from the file's beginning where its format cannot go to a keyframe.

Frames are turned upright (display matrix), pixels made square, more than 8 bits reduced to 8, and
high dynamic range (PQ, HLG) mapped to sRGB, by FFmpeg. Transparency is not shown, and interlaced
frames stay as they are. All images of a video together have at most `max_pixels`; larger ones are
made smaller, in proportion. So a video takes no more memory than an image, and its decoder's.
"""

from __future__ import annotations

import itertools
import math
import time
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from PIL import Image

from pipeline.contract.errors import RowError, one_line
from pipeline.contract.record import Outcome
from pipeline.contract.video_formats import SUFFIXES_BY_DEMUXER, VIDEO_SUFFIXES
from pipeline.images.frames import Frame, chosen
from pipeline.storage.contents import HEAD, recognised

if TYPE_CHECKING:
    from collections.abc import Iterator

OPENED = {
    "format_whitelist": ",".join(SUFFIXES_BY_DEMUXER),
    "protocol_whitelist": "none",  # no file and no link that a file may name
}
MOST_PACKETS = 2_000_000
"""Most packets of a video and its sound, some five hours. Their times are held in memory."""
WHOLE = 0.9
"""A video that lacks more than a tenth of the seconds that it declares is cut off."""
MICROSECONDS = 1_000_000
MOST_STRETCH = 10.0
"""Pixels that are longer than this, in either direction, are taken for square."""
UNSPECIFIED = 2
HD_HEIGHT = 720
"""From here on colours that say nothing of themselves are BT.709, as players take them."""
HIGH_DYNAMIC_RANGE = (16, 18)
"""FFmpeg's numbers of the transfer functions PQ and HLG."""
SRGB = {"dst_color_trc": 13, "dst_color_primaries": 1}
TURNS = {
    1: Image.Transpose.ROTATE_90,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
}
"""By quarters counter-clockwise."""


def decode_video(
    file: BinaryIO, *, most: int, fps: float | None, max_pixels: int, seconds: float
) -> tuple[Frame, ...]:
    """Decode the frames of a video that are shown.

    Args:
        file: The video, seekable.
        most: Most frames; see `frames.chosen`.
        fps: Frames a second; None for `most` frames, however long the video is.
        max_pixels: Width times height of a frame, and of all images together.
        seconds: Most time that this may take.

    Returns:
        Frames in order, each once, at least one.

    Raises:
        RowError: `decode_error`: it is no video or has only sound, it is damaged, cut off or too
            large, or it takes too long.
    """
    reader = _Reader(file, max_pixels, time.monotonic() + seconds)
    try:
        reader.open()
        index = reader.index()
        wanted = chosen(index.starts, index.end, unit=index.unit, most=most, fps=fps)
        shown = (reader.frame(index, start) for start in wanted)
        found: dict[float, Image.Image] = {}
        for frame in shown:
            found.setdefault(
                index.seconds(frame.pts),
                _to_image(frame, reader.stretch, max_pixels // len(wanted)),
            )
        return tuple(Frame(start, image) for start, image in found.items())
    except RowError:
        raise
    except Exception as error:  # decoders meet arbitrary bytes: any fault is the row's own
        _refuse(f"the video is damaged: {_said(error)}")
    finally:
        reader.close()


def _refuse(message: str) -> NoReturn:
    raise RowError(Outcome.DECODE_ERROR, "decode", message) from None


def _said(error: Exception) -> str:
    """What FFmpeg says, without the name that it has for the file."""
    return getattr(error, "strerror", None) or one_line(error)


@dataclass(frozen=True)
class _Index:
    """When frames appear, in units of the stream's time base.

    Attributes:
        starts: When each frame appears, ascending; not empty.
        keys: Those of them that decoding can begin with; not empty.
        end: When the last one goes.
        unit: The time base, in seconds.
    """

    starts: list[int]
    keys: list[int]
    end: int
    unit: Fraction

    def seconds(self, when: int) -> float:
        """Seconds from the first frame on."""
        return float((when - self.starts[0]) * self.unit)

    def key_before(self, start: int) -> int:
        """Where decoding begins for a frame."""
        return self.keys[max(0, bisect_right(self.keys, start) - 1)]


class _Reader:
    """A video file and where its decoding is.

    Args:
        file: The video.
        max_pixels: Width times height of a frame.
        deadline: When it must be done, by the monotonic clock.
    """

    def __init__(self, file: BinaryIO, max_pixels: int, deadline: float) -> None:
        self._file = file
        self._max_pixels = max_pixels
        self._deadline = deadline
        self._container: Any = None
        self._stream: Any = None
        self._frames: Iterator[Any] = iter(())
        self._at: int | None = None

    @property
    def stretch(self) -> float:
        """How many times as wide as high a pixel is."""
        ratio = self._stream.sample_aspect_ratio
        stretch = float(ratio) if ratio else 1.0
        return stretch if 1 / MOST_STRETCH <= stretch <= MOST_STRETCH else 1.0

    def open(self) -> None:
        """Open the file at its beginning. Raises RowError."""
        import av

        self.close()
        self._file.seek(0)
        options = {"max_pixels": str(self._max_pixels)}
        try:
            self._container = av.open(self._file, "r", options=options, container_options=OPENED)
        except av.FFmpegError as error:
            _refuse(self._why_not_opened(error))
        self._stream = _pictures(self._container)
        codec = self._stream.codec_context
        if codec.width * codec.height > self._max_pixels:
            _refuse(
                f"the video declares {codec.width} x {codec.height} pixels, more than the limit of "
                f"{self._max_pixels:,}"
            )
        codec.options = options
        codec.thread_count = 1  # other renderers keep the other cores busy
        self._frames, self._at = self._decoded(), None

    def close(self) -> None:
        """Close the container, which does not close the file."""
        if self._container is not None:
            self._container.close()

    def index(self) -> _Index:
        """List the packets. Raises RowError."""
        starts: set[int] = set()
        keys: set[int] = set()
        ends: dict[Any, int] = {}
        for packet in self._packets():
            stream, end = packet.stream, packet.pts + (packet.duration or 0)
            ends[stream] = max(end, ends.get(stream, end))
            if stream is self._stream and not packet.is_discard:
                starts.add(packet.pts)
                keys |= {packet.pts} if packet.is_keyframe else set()
        self._check_whole(ends)
        keys = keys or {*sorted(starts)[:1]}
        shown = sorted(start for start in starts if start >= min(keys))
        if not shown:
            _refuse("the video has no frames")
        unit = self._stream.time_base
        last = max(ends[self._stream], _one_more(shown))
        return _Index(shown, sorted(keys), last, Fraction(unit.numerator, unit.denominator))

    def _packets(self) -> Iterator[Any]:
        """All packets that have a time, of sound too."""
        for number, packet in enumerate(self._container.demux()):
            self._check_time()
            if number > MOST_PACKETS:
                _refuse(f"the video has more than {MOST_PACKETS:,} packets")
            if packet.stream is self._stream and packet.is_corrupt:
                _refuse("the video is cut off or damaged")
            if packet.pts is not None:
                yield packet

    def _check_whole(self, ends: dict[Any, int]) -> None:
        declared = self._container.duration
        if declared is None:
            return
        begin = (self._container.start_time or 0) / MICROSECONDS
        found = max((float(end * one.time_base) for one, end in ends.items()), default=0.0) - begin
        if found < WHOLE * declared / MICROSECONDS:
            declared_s = declared / MICROSECONDS
            _refuse(f"the video is cut off: {found:.2f} of {declared_s:.2f} seconds are there")

    def frame(self, index: _Index, start: int) -> Any:
        """The frame that appears at a time. Raises RowError."""
        key = index.key_before(start)
        if self._at is None or key > self._at:
            self._container.seek(key, stream=self._stream)
            self._frames, self._at = self._decoded(), None
        found = self._last_until(start)
        if found is None:  # the format cannot go to a keyframe
            self.open()
            found = self._last_until(start)
        if found is None or found.is_corrupt:
            _refuse(f"the video is damaged at {index.seconds(start):.2f} seconds")
        if found.width * found.height > self._max_pixels:
            _refuse(f"the video has frames of {found.width} x {found.height} pixels")
        return found

    def _last_until(self, start: int) -> Any:
        """Decode up to a frame; None if decoding began after it.

        A packet may have no frame of its own, such as one that later frames alone refer to. Then it
        is the frame before.
        """
        found = None
        for frame in self._frames:
            self._check_time()
            if frame.pts is None:
                continue
            if frame.pts > start:
                self._frames = itertools.chain([frame], self._frames)
                break
            found, self._at = frame, frame.pts
            if frame.pts == start:
                break
        return found

    def _decoded(self) -> Iterator[Any]:
        yield from self._container.decode(self._stream)

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            _refuse("the video takes too long to decode")

    def _why_not_opened(self, error: Exception) -> str:
        self._file.seek(0)
        head = self._file.read(HEAD)
        found = recognised(head)
        if found is not None and found.suffix in VIDEO_SUFFIXES:
            return f"the video is cut off or damaged: it cannot be opened ({_said(error)})"
        return f"not a video in a known format{f', but {found.what}' if found else ''}"


def _one_more(starts: list[int]) -> int:
    """When the last frame goes if it is there as long as the others on average."""
    if len(starts) < 2:  # noqa: PLR2004  a length needs two
        return starts[0]
    return starts[-1] + (starts[-1] - starts[0]) // (len(starts) - 1)


def _pictures(container: Any) -> Any:
    """The stream with the moving pictures; a cover of sound is none. Raises RowError."""
    from av.stream import Disposition

    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        _refuse("it has only sound, no video" if container.streams.audio else "it has no video")
    decodable = next((stream for stream in streams if stream.codec_context is not None), None)
    if decodable is None:
        _refuse("the video's codec cannot be decoded")
    return decodable


def _to_image(frame: Any, stretch: float, most_pixels: int) -> Image.Image:
    """A frame as an upright RGB image of at most so many pixels."""
    width = frame.width * max(1.0, stretch)
    height = frame.height / min(1.0, stretch)
    scale = min(1.0, math.sqrt(most_pixels / (width * height)))
    image: Image.Image = frame.to_image(
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        interpolation="BICUBIC" if scale == 1.0 else "AREA",
        **_colours(frame),
    )
    turn = TURNS.get(round(frame.rotation / 90) % 4)
    return image if turn is None else image.transpose(turn)


def _colours(frame: Any) -> dict[str, Any]:
    """How a frame's colours are read, where it does not say so itself, and mapped."""
    if frame.color_trc in HIGH_DYNAMIC_RANGE:
        return SRGB
    is_unknown = frame.colorspace == UNSPECIFIED and not frame.format.is_rgb
    return {"src_colorspace": "ITU709"} if is_unknown and frame.height >= HD_HEIGHT else {}
