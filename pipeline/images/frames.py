"""Decides which frames of a video are shown, and how each is called in the prompt.

A video's time is cut into equal parts, and of each part the frame is taken that is on screen at its
middle. A frame that is on screen at several of these middles is taken once; a video that has no
more frames than there are parts gives all that it has.

`fps` sets the number of parts: the video's seconds times `fps`, rounded, at least one and at most
`most`. So an hour gives `most` frames, evenly spaced, and not 3,600.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        seconds: When it appears, from the video's first frame on.
        image: An RGB image, 8 bits a channel, upright.
    """

    seconds: float
    image: Image

    @property
    def label(self) -> str:
        """The text before it in a prompt.

        As in Google's Gemma cookbook, "[Gemma_3]Inference_images_and_videos".
        """
        return f"Frame at {round(self.seconds, 2)} seconds:"


def chosen(
    starts: Sequence[int], end: int, *, unit: Fraction, most: int, fps: float | None
) -> list[int]:
    """Choose frames.

    Args:
        starts: When each frame appears, ascending; not empty.
        end: When the last one goes.
        unit: What these times are counted in, in seconds.
        most: Most frames.
        fps: Frames a second; None for `most` frames, however long the video is.

    Returns:
        Those of `starts` that are shown.
    """
    whole = end - starts[0]
    parts = most if fps is None else max(1, min(most, round(float(whole * unit) * fps)))
    if len(starts) <= parts:
        return list(starts)
    # Rounded down, which takes no frame that would not be there otherwise: starts are integers.
    middles = (starts[0] + whole * (2 * part + 1) // (2 * parts) for part in range(parts))
    return list(dict.fromkeys(starts[bisect_right(starts, middle) - 1] for middle in middles))
