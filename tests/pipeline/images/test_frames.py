"""Which frames of a video are shown."""

from __future__ import annotations

import pytest
from PIL import Image

from pipeline.images.frames import Frame, chosen


def evenly(count: int, fps: float) -> list[float]:
    return [number / fps for number in range(count)]


def test_frames_are_those_at_the_middles_of_equal_parts() -> None:
    starts = evenly(100, 10)  # ten seconds
    assert chosen(starts, 10.0, 4, None) == [12, 37, 62, 87]
    assert chosen(starts, 10.0, 1, None) == [50]
    assert chosen(starts, 10.0, 100, None) == [*range(100)]


def test_a_video_with_few_frames_gives_each_once() -> None:
    assert chosen([0.0], 0.0, 8, None) == [0]
    assert chosen(evenly(3, 10), 0.3, 8, None) == [0, 1, 2]
    assert chosen(evenly(8, 10), 0.8, 8, None) == [*range(8)]
    assert chosen(evenly(9, 10), 0.9, 8, None) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_times_count_and_not_numbers() -> None:
    """A frame that is on screen for long is at several middles, and is taken once."""
    starts = [0.0, 0.1, 0.2, 0.3, 9.0, 9.5]
    assert chosen(starts, 10.0, 4, None) == [3, 4]
    assert chosen(starts, 10.0, 5, None) == [3, 4]


@pytest.mark.parametrize(
    ("seconds", "fps", "most", "parts"),
    [(10, 1, 24, 10), (10, 0.5, 24, 5), (0.4, 1, 24, 1), (3600, 1, 24, 24), (10, 2, 24, 20)],
)
def test_so_many_a_second_up_to_the_most(seconds: float, fps: float, most: int, parts: int) -> None:
    starts = evenly(int(seconds * 25), 25)
    found = chosen(starts, seconds, most, fps)
    assert len(found) == parts
    assert found == chosen(starts, seconds, parts, None)


def test_more_a_second_than_there_are_gives_all() -> None:
    assert chosen(evenly(10, 5), 2.0, 24, 60) == [*range(10)]


def test_a_frame_is_called_by_its_time() -> None:
    image = Image.new("RGB", (1, 1))
    labels = [Frame(seconds, image).label for seconds in (0, 2.0, 1.2345, 3600.5)]
    assert labels == [
        "Frame at 0 seconds:",
        "Frame at 2.0 seconds:",
        "Frame at 1.23 seconds:",
        "Frame at 3600.5 seconds:",
    ]
