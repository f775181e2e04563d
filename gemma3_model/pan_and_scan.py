"""Decides which crops of a long image are shown with it, and the words between them.

Pan and scan helps with small text and detail (DocVQA +8.2 for 4B; technical report, arXiv
2503.19786, table 7) at the price of 260 tokens and one pass of the tower a crop. Off by default, as
in the released preprocessors. Crops and words are those of transformers' ``Gemma3ImageProcessor``
and ``Gemma3Processor``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge in pixels, as Pillow's ``Image.crop`` takes them."""

INTRODUCTION: Final = "Here is the original image "
TRANSITION: Final = " and here are some crops to help you see better "
BETWEEN_CROPS: Final = " "

_OPTIONS: Final = {
    "do_pan_and_scan": "enabled",
    "pan_and_scan_min_crop_size": "min_crop_size",
    "pan_and_scan_max_num_crops": "max_num_crops",
    "pan_and_scan_min_ratio_to_activate": "min_ratio",
}
"""The names in ``preprocessor_config.json`` and in vLLM's ``mm_processor_kwargs`` -> ours."""

OPTION_NAMES: Final = frozenset(_OPTIONS)


@dataclass(frozen=True, kw_only=True)
class PanAndScan:
    """Which images get crops, and how many.

    Attributes:
        enabled: Whether any image does.
        min_crop_size: Shortest side of a crop, in pixels; an image whose crops would have a
            shorter one gets none.
        max_num_crops: Most crops of an image.
        min_ratio: Smallest ratio of the long side to the short one at which an image gets crops.
    """

    enabled: bool = False
    min_crop_size: int = 256
    max_num_crops: int = 4
    min_ratio: float = 1.2

    def updated(self, options: Mapping[str, Any]) -> PanAndScan:
        """These settings, overridden by those of ``options`` that are ours and not None."""
        given = {
            field: options[name]
            for name, field in _OPTIONS.items()
            if options.get(name) is not None
        }
        return PanAndScan(**{**vars(self), **given})

    def crop_boxes(self, width: int, height: int) -> list[Box]:
        """The crops of an image of ``width`` times ``height`` pixels, along its long side.

        Empty where pan and scan is off, the image is not long enough, or the crops would be too
        small. The last crop is a little narrower where the side does not divide evenly.
        """
        long, short = max(width, height), min(width, height)
        if not self.enabled or long / short < self.min_ratio:
            return []
        wanted = min(long // self.min_crop_size, math.floor(long / short + 0.5))
        num_crops = min(max(2, wanted), self.max_num_crops)
        step = math.ceil(long / num_crops)
        if min(step, short) < self.min_crop_size:
            return []
        starts = range(0, step * num_crops, step)
        if width >= height:
            return [(start, 0, min(start + step, width), height) for start in starts]
        return [(0, start, width, min(start + step, height)) for start in starts]
