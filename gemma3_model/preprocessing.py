"""Decides how an image becomes pixels: size, crops and the constants of normalisation.

Pixels stay bytes here; the tower normalises them on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from gemma3_model.pan_and_scan import Box, PanAndScan


@dataclass(frozen=True, kw_only=True)
class ImagePreprocessing:
    """How a checkpoint's images are preprocessed; the defaults are every released Gemma 3's."""

    resample: int = Image.Resampling.BILINEAR
    rescale_factor: float = 1 / 255
    image_mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    image_std: tuple[float, ...] = (0.5, 0.5, 0.5)
    pan_and_scan: PanAndScan = field(default_factory=PanAndScan)

    @classmethod
    def from_config(cls, stored: Mapping[str, Any]) -> ImagePreprocessing:
        """From ``preprocessor_config.json``, or that part of ``processor_config.json``."""
        stored = stored.get("image_processor", stored)
        names = ("resample", "rescale_factor", "image_mean", "image_std")
        given = {name: stored[name] for name in names if stored.get(name) is not None}
        return cls(**given, pan_and_scan=PanAndScan().updated(stored))

    @property
    def normalisation(self) -> dict[str, Any]:
        """The arguments of :class:`gemma3_model.vision.PixelNormalisation`."""
        return {
            "rescale_factor": self.rescale_factor,
            "mean": list(self.image_mean),
            "std": list(self.image_std),
        }

    def pixels(self, image: Image.Image, size: int, boxes: Sequence[Box] = ()) -> np.ndarray:
        """An image and its crops to [1 + crops, 3, size, size] uint8.

        The aspect ratio is not preserved, as in the released preprocessors.
        """
        image = image.convert("RGB")
        views = [image, *(image.crop(box) for box in boxes)]
        resized = [view.resize((size, size), Image.Resampling(self.resample)) for view in views]
        stacked = np.stack([np.asarray(view) for view in resized])
        return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))
