"""Images and a prompt's ids to what an engine is sent, in a process without torch or vLLM.

Pixels are :mod:`gemma3_model.preprocessing`'s, ids :mod:`gemma3_model.placeholders`'; the engine's
process makes vLLM's input of both (:func:`gemma3_model.processor.engine_input`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gemma3_model.placeholders import ImageTokens, Place, Placeholders
from gemma3_model.preprocessing import ImagePreprocessing

if TYPE_CHECKING:
    from PIL import Image

    from gemma3_model.tokenizer import TextTokenizer

DEFAULT_IMAGE_SIZE = 224
"""Of transformers' ``SiglipVisionConfig``, for a configuration that leaves it out."""


@dataclass(frozen=True)
class Views:
    """One image, ready for the tower.

    Attributes:
        pixels: [1 + crops, 3, S, S] uint8: the image, then its crops.
        fingerprint: The same for the same pixels, in every process.
    """

    pixels: np.ndarray
    fingerprint: str


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt, as the engine's process takes it.

    Attributes:
        token_ids: Its ids, the soft tokens' included.
        images: Its images, in their order.
        places: Where each one stands among the ids.
    """

    token_ids: list[int]
    images: tuple[Views, ...] = ()
    places: tuple[Place, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the images' pixels."""
        return sum(views.pixels.nbytes for views in self.images)


class ImageRendering:
    """Renders images for one checkpoint.

    Args:
        config: Its ``config.json``.
        preprocessor: Its ``preprocessor_config.json``, or ``processor_config.json``.
        tokenizer: Its tokenizer.
        pan_and_scan: Whether long, narrow images are shown in crops as well.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        preprocessor: Mapping[str, Any],
        tokenizer: TextTokenizer,
        *,
        pan_and_scan: bool,
    ) -> None:
        self._size = int(config.get("vision_config", {}).get("image_size", DEFAULT_IMAGE_SIZE))
        self._placeholders = Placeholders(ImageTokens.from_json(config, tokenizer), tokenizer)
        stored = preprocessor.get("image_processor", preprocessor)
        options = {"do_pan_and_scan": True} if pan_and_scan else {}
        self._preprocessing = ImagePreprocessing.from_config({**stored, **options})

    def views(self, image: Image.Image) -> Views:
        """One image and its crops."""
        boxes = self._preprocessing.pan_and_scan.crop_boxes(*image.size)
        pixels = self._preprocessing.pixels(image, self._size, boxes)
        digest = hashlib.blake2b(pixels.data, digest_size=16)
        digest.update(str(pixels.shape).encode())
        return Views(pixels, digest.hexdigest())

    def prompt(self, token_ids: Sequence[int], images: Sequence[Views]) -> RenderedPrompt:
        """Put images into a prompt.

        Args:
            token_ids: Ids, with one ``<start_of_image>`` for each image.
            images: The images.

        Raises:
            ValueError: There are more or fewer ``<start_of_image>`` than images.
        """
        num_crops = [len(image.pixels) - 1 for image in images]
        ids, places = self._placeholders.expand(token_ids, num_crops)
        return RenderedPrompt(ids, tuple(images), tuple(places))
