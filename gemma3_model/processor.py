"""Decides what vLLM gets for a prompt with images: pixels, ids and the places of soft tokens.

vLLM asks its processor interface for prompts with images as users of vLLM write them, and measures
memory with it. What our own renderers made (:mod:`gemma3_model.rendering`) needs no processing:
:func:`engine_input` only puts it into vLLM's types. Pixels are :mod:`gemma3_model.preprocessing`'s
and ids :mod:`gemma3_model.placeholders`' either way; transformers' own processor is never imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import torch
from PIL import Image
from transformers import BatchFeature, Gemma3Config, ShieldGemma2Config
from vllm.inputs import mm_input, tokens_input
from vllm.multimodal.inputs import (
    MultiModalFieldConfig,
    MultiModalKwargsItems,
    PlaceholderRange,
)
from vllm.multimodal.parse import ImageProcessorItems
from vllm.multimodal.processing import BaseDummyInputsBuilder
from vllm.multimodal.processing.processor import (
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PlaceholderFeaturesInfo,
    PromptReplacement,
    PromptUpdate,
)

from gemma3_model.pan_and_scan import OPTION_NAMES, Box
from gemma3_model.placeholders import ImageTokens, Place, Placeholders
from gemma3_model.preprocessing import ImagePreprocessing
from gemma3_model.tokenizer import TextTokenizer

if TYPE_CHECKING:
    import numpy as np
    from vllm.inputs import MultiModalInput, TokensInput
    from vllm.multimodal.parse import MultiModalDataItems

    from gemma3_model.rendering import RenderedPrompt

MODALITY: Final = "image"


class Gemma3ProcessingInfo(BaseProcessingInfo):
    """What the other two classes need to know of the checkpoint."""

    def get_hf_config(self) -> Gemma3Config | ShieldGemma2Config:
        """The checkpoint's configuration; the two have the same fields."""
        config: Gemma3Config | ShieldGemma2Config
        config = self.ctx.get_hf_config((Gemma3Config, ShieldGemma2Config))
        return config

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """Any number of images in a prompt."""
        return {MODALITY: None}

    def get_supported_mm_processor_kwargs(self) -> dict[str, set[str]]:
        """Pan and scan, as an option of the engine or of a request."""
        return {"images_kwargs": set(OPTION_NAMES)}

    @cached_property
    def placeholders(self) -> Placeholders:
        """How images are inserted into prompts."""
        tokenizer = TextTokenizer(self.get_tokenizer().backend_tokenizer)
        return Placeholders(ImageTokens.from_config(self.get_hf_config()), tokenizer)

    @cached_property
    def preprocessing(self) -> ImagePreprocessing:
        """How images are preprocessed."""
        return ImagePreprocessing.from_config(self.ctx.model_config.hf_image_processor_config)

    def crop_boxes(self, image: Image.Image, options: Mapping[str, object]) -> list[Box]:
        """The crops of one image under the engine's and the request's options."""
        merged = self.ctx.get_merged_mm_kwargs(options)
        nested = merged.get("images_kwargs") or {}
        pan_and_scan = self.preprocessing.pan_and_scan.updated({**merged, **nested})
        return pan_and_scan.crop_boxes(*image.size)


class Gemma3DummyInputs(BaseDummyInputsBuilder[Gemma3ProcessingInfo]):
    """The largest possible input, with which vLLM measures memory."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """One ``<start_of_image>`` per image."""
        tokenizer = self.info.get_tokenizer()
        begin: str = tokenizer.convert_ids_to_tokens(self.info.placeholders.tokens.begin)
        return begin * mm_counts.get(MODALITY, 0)

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """White images, long enough that pan and scan makes the most crops it may."""
        pan_and_scan = self.info.preprocessing.pan_and_scan
        side = max(self.info.get_hf_config().vision_config.image_size, pan_and_scan.min_crop_size)
        return {
            MODALITY: self._get_dummy_images(
                width=side * pan_and_scan.max_num_crops,
                height=side,
                num_images=mm_counts.get(MODALITY, 0),
                overrides=mm_options.get(MODALITY),
            )
        }


class Gemma3Processing(BaseMultiModalProcessor[Gemma3ProcessingInfo]):
    """Images to uint8 pixels, prompts to expanded ids."""

    def _call_hf_processor(
        self, hf_data: Mapping[str, object], hf_kwargs: Mapping[str, object]
    ) -> BatchFeature:
        """``pixel_values`` [views, 3, S, S] uint8 and ``num_views`` [images].

        A view is an image or one of its crops. No Hugging Face processor is called.
        """
        images = hf_data["images"]
        assert isinstance(images, Sequence)
        size = self.info.get_hf_config().vision_config.image_size
        views = [
            self.info.preprocessing.pixels(image, size, self.info.crop_boxes(image, hf_kwargs))
            for image in images
        ]
        return _features(views)

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return _fields(hf_inputs.get("num_views", torch.empty(0)))

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, Any],
        out_mm_kwargs: Any,
    ) -> Sequence[PromptUpdate]:
        placeholders: Placeholders = self.info.placeholders
        target = [placeholders.tokens.begin]

        def replacement(item: int) -> list[int]:
            image = mm_items.get_items(MODALITY, ImageProcessorItems).get(item)
            boxes = self.info.crop_boxes(image, hf_processor_mm_kwargs)
            ids, _ = placeholders.expand(target, [len(boxes)])
            return ids

        return [PromptReplacement(modality=MODALITY, target=target, replacement=replacement)]

    def _apply_prompt_updates(
        self, token_ids: list[int], mm_prompt_updates: Mapping[str, Sequence[Any]]
    ) -> tuple[list[int], Mapping[str, list[PlaceholderFeaturesInfo]]]:
        """Expand the prompt; an image's range reaches from its first soft token to its last.

        Raises:
            ValueError: the prompt has more or fewer ``<start_of_image>`` than images.
        """
        placeholders: Placeholders = self.info.placeholders
        num_crops = [
            list(update.content.full).count(placeholders.tokens.begin) - 1
            for (update,) in mm_prompt_updates.get(MODALITY, ())
        ]
        ids, places = placeholders.expand(token_ids, num_crops)
        found = [_placeholder(ids, item, place) for item, place in enumerate(places)]
        return ids, {MODALITY: found} if found else {}


def _placeholder(ids: Sequence[int], item: int, place: Place) -> PlaceholderFeaturesInfo:
    return PlaceholderFeaturesInfo(
        modality=MODALITY,
        item_idx=item,
        start_idx=place.start,
        tokens=list(ids[place.start : place.start + len(place.is_soft)]),
        is_embed=None if all(place.is_soft) else torch.tensor(place.is_soft),
    )


def engine_input(prompt: RenderedPrompt) -> MultiModalInput | TokensInput:
    """A rendered prompt as vLLM's engine takes it; no pixel is copied.

    Args:
        prompt: What :class:`gemma3_model.rendering.ImageRendering` made.
    """
    if not prompt.images:
        return tokens_input(prompt.token_ids)
    features = _features([image.pixels for image in prompt.images])
    return mm_input(
        prompt_token_ids=prompt.token_ids,
        mm_kwargs=MultiModalKwargsItems.from_hf_inputs(features, _fields(features["num_views"])),
        mm_hashes={MODALITY: [image.fingerprint for image in prompt.images]},
        mm_placeholders={MODALITY: [_range(place) for place in prompt.places]},
    )


def _features(views: Sequence[np.ndarray]) -> BatchFeature:
    """``pixel_values`` [views, 3, S, S] uint8 and ``num_views`` [images]."""
    pixels = [torch.from_numpy(image) for image in views]
    return BatchFeature(
        {
            "pixel_values": pixels[0] if len(pixels) == 1 else torch.cat(pixels),
            "num_views": torch.tensor([len(image) for image in pixels]),
        }
    )


def _fields(num_views: torch.Tensor) -> Mapping[str, MultiModalFieldConfig]:
    """Which part of the features belongs to which image."""
    return {
        "pixel_values": MultiModalFieldConfig.flat_from_sizes(MODALITY, num_views),
        "num_views": MultiModalFieldConfig.batched(MODALITY, keep_on_cpu=True),
    }


def _range(place: Place) -> PlaceholderRange:
    """An image's range reaches from its first soft token to its last."""
    is_embed = None if all(place.is_soft) else torch.tensor(place.is_soft)
    return PlaceholderRange(offset=place.start, length=len(place.is_soft), is_embed=is_embed)
