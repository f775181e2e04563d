"""Which frames of a video are shown."""

from __future__ import annotations

from fractions import Fraction

import pytest
from PIL import Image

from pipeline.images.frames import Frame, chosen

MS = Fraction(1, 1000)


def evenly(count: int, fps: int) -> list[int]:
    return [1000 * number // fps for number in range(count)]


def numbers(starts: list[int], end: int, most: int, fps: float | None = None) -> list[int]:
    """Positions of the frames that are chosen; times are milliseconds."""
    found = chosen(starts, end, unit=MS, most=most, fps=fps)
    return [starts.index(start) for start in found]


def test_frames_are_those_at_the_middles_of_equal_parts() -> None:
    starts = evenly(100, 10)  # ten seconds
    assert numbers(starts, 10_000, 4) == [12, 37, 62, 87]
    assert numbers(starts, 10_000, 1) == [50]
    assert numbers(starts, 10_000, 100) == [*range(100)]


def test_a_video_need_not_begin_at_0() -> None:
    starts = [7_000 + start for start in evenly(100, 10)]
    assert numbers(starts, 17_000, 4) == [12, 37, 62, 87]


def test_a_video_with_few_frames_gives_each_once() -> None:
    assert numbers([0], 0, 8) == [0]
    assert numbers(evenly(3, 10), 300, 8) == [0, 1, 2]
    assert numbers(evenly(8, 10), 800, 8) == [*range(8)]
    assert numbers(evenly(9, 10), 900, 8) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_times_count_and_not_numbers() -> None:
    """A frame that is on screen for long is at several middles, and is taken once."""
    starts = [0, 100, 200, 300, 8_000, 9_500]
    assert numbers(starts, 10_000, 4) == [3, 4]
    assert numbers(starts, 10_000, 5) == [3, 4]


@pytest.mark.parametrize(
    ("seconds", "fps", "most", "parts"),
    [(10, 1, 24, 10), (10, 0.5, 24, 5), (0.4, 1, 24, 1), (3600, 1, 24, 24), (10, 2, 24, 20)],
)
def test_so_many_a_second_up_to_the_most(seconds: float, fps: float, most: int, parts: int) -> None:
    starts, end = evenly(int(seconds * 25), 25), int(seconds * 1000)
    found = numbers(starts, end, most, fps)
    assert len(found) == parts
    assert found == numbers(starts, end, parts)


def test_more_a_second_than_there_are_gives_all() -> None:
    assert numbers(evenly(10, 5), 2_000, 24, 60) == [*range(10)]


def test_a_frame_is_called_by_its_time() -> None:
    image = Image.new("RGB", (1, 1))
    labels = [Frame(seconds, image).label for seconds in (0, 2.0, 1.2345, 3600.5)]
    assert labels == [
        "Frame at 0 seconds:",
        "Frame at 2.0 seconds:",
        "Frame at 1.23 seconds:",
        "Frame at 3600.5 seconds:",
    ]
