r"""Decides how pictures and a prompt become pixels, token ids and the places of soft tokens.

Written for vLLM's processor interface, so that it runs in any process, with or without an
engine. Needs Pillow and the checkpoint's tokenizer only; torchvision and transformers' own
processor are never imported.

A picture stands in the prompt as one ``<start_of_image>`` and is expanded to

    \n\n <start_of_image> <image_soft_token> * K <end_of_image> \n\n

where the tokenizer has one token for a whole run of newlines, so the runs that come to touch
are joined as the tokenizer would have joined them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature, Gemma3Config
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.processing import BaseDummyInputsBuilder
from vllm.multimodal.processing.processor import (
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PlaceholderFeaturesInfo,
    PromptReplacement,
    PromptUpdate,
)

if TYPE_CHECKING:
    from vllm.config import ModelConfig
    from vllm.multimodal.parse import MultiModalDataItems

MODALITY: Final = "image"


@dataclass(frozen=True, kw_only=True)
class ImagePreprocessing:
    """How a checkpoint wants its pictures; defaults are those of every released Gemma 3."""

    resample: int = Image.Resampling.BILINEAR
    rescale_factor: float = 1 / 255
    image_mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    image_std: tuple[float, ...] = (0.5, 0.5, 0.5)

    @classmethod
    def from_model_config(cls, model_config: ModelConfig) -> ImagePreprocessing:
        """Read ``preprocessor_config.json`` (or its place in ``processor_config.json``).

        Raises:
            ValueError: it asks for pan-and-scan, which is not built yet.
        """
        stored = model_config.hf_image_processor_config
        stored = stored.get("image_processor", stored)
        if stored.get("do_pan_and_scan"):
            raise ValueError(
                f"{model_config.model}: preprocessor_config.json sets do_pan_and_scan, which is "
                "not supported yet; set it to false there."
            )
        names = ("resample", "rescale_factor", "image_mean", "image_std")
        return cls(**{name: stored[name] for name in names if stored.get(name) is not None})

    @property
    def normalisation(self) -> dict[str, Any]:
        """The arguments of :class:`gemma3_model.vision.PixelNormalisation`."""
        return {
            "rescale_factor": self.rescale_factor,
            "mean": list(self.image_mean),
            "std": list(self.image_std),
        }

    def pixels(self, image: Image.Image, size: int) -> torch.Tensor:
        """Any picture to [3, size, size] uint8; the sides are not kept in proportion."""
        resized = image.convert("RGB").resize((size, size), Image.Resampling(self.resample))
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


@dataclass(frozen=True, kw_only=True)
class PromptTokens:
    """The ids that a picture's place in a prompt is made of, read from the checkpoint.

    Attributes:
        begin: ``<start_of_image>``.
        soft: ``<image_soft_token>``.
        end: ``<end_of_image>``.
        soft_per_image: soft tokens of one picture.
        newlines: id -> how many newlines that token stands for.
        newline_run: how many newlines -> the ids the tokenizer gives them.
    """

    begin: int
    soft: int
    end: int
    soft_per_image: int
    newlines: Mapping[int, int]
    newline_run: Callable[[int], list[int]]

    @classmethod
    def from_checkpoint(cls, config: Gemma3Config, tokenizer: Any) -> PromptTokens:
        """Read the ids of special tokens from the configuration, newlines from the tokenizer."""

        @cache
        def newline_run(count: int) -> list[int]:
            ids: list[int] = tokenizer.encode("\n" * count, add_special_tokens=False)
            return ids

        return cls(
            begin=config.boi_token_index,
            soft=config.image_token_id,
            end=config.eoi_token_index,
            soft_per_image=config.mm_tokens_per_image,
            newlines={
                token_id: len(token)
                for token, token_id in tokenizer.get_vocab().items()
                if token and not token.strip("\n")
            },
            newline_run=newline_run,
        )

    @property
    def image(self) -> list[int]:
        """The expansion of one picture, before its newlines join their neighbours."""
        soft = [self.soft] * self.soft_per_image
        return [*self.newline_run(2), self.begin, *soft, self.end, *self.newline_run(2)]

    def expand(self, prompt: Sequence[int]) -> tuple[list[int], list[int]]:
        """Expand each ``<start_of_image>`` of a prompt and join the newlines around it.

        Returns:
            The new ids, and the position of each picture's first soft token in them.
        """
        image = self.image
        pieces = (image if token == self.begin else (token,) for token in prompt)
        ids: list[int] = []
        for is_newline, run in groupby(chain.from_iterable(pieces), self.newlines.__contains__):
            tokens = list(run)
            count = sum(self.newlines.get(token, 0) for token in tokens)
            ids += self.newline_run(count) if is_newline else tokens
        return ids, [place + 1 for place, token in enumerate(ids) if token == self.begin]


class Gemma3ProcessingInfo(BaseProcessingInfo):
    """What the other two classes need to know of the checkpoint."""

    def get_hf_config(self) -> Gemma3Config:
        """The checkpoint's configuration."""
        config: Gemma3Config = self.ctx.get_hf_config(Gemma3Config)
        return config

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """Any number of pictures in a prompt."""
        return {MODALITY: None}

    def get_supported_mm_processor_kwargs(self) -> dict[str, set[str]]:
        """No options per request."""
        return {}

    @cached_property
    def tokens(self) -> PromptTokens:
        """The ids around a picture."""
        return PromptTokens.from_checkpoint(self.get_hf_config(), self.get_tokenizer())

    @cached_property
    def preprocessing(self) -> ImagePreprocessing:
        """How pictures are made ready."""
        return ImagePreprocessing.from_model_config(self.ctx.model_config)


class Gemma3DummyInputs(BaseDummyInputsBuilder[Gemma3ProcessingInfo]):
    """The largest input there can be, for vLLM to measure memory with."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """One ``<start_of_image>`` per picture."""
        tokenizer = self.info.get_tokenizer()
        begin: str = tokenizer.convert_ids_to_tokens(self.info.tokens.begin)
        return begin * mm_counts.get(MODALITY, 0)

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """White pictures of the tower's size."""
        side = self.info.get_hf_config().vision_config.image_size
        return {
            MODALITY: self._get_dummy_images(
                width=side,
                height=side,
                num_images=mm_counts.get(MODALITY, 0),
                overrides=mm_options.get(MODALITY),
            )
        }


class Gemma3Processing(BaseMultiModalProcessor[Gemma3ProcessingInfo]):
    """Pictures to uint8 pixels, prompts to expanded ids."""

    def _call_hf_processor(
        self, hf_data: Mapping[str, object], hf_kwargs: Mapping[str, object]
    ) -> BatchFeature:
        """``{"pixel_values": [pictures, 3, S, S] uint8}``; no Hugging Face processor is asked."""
        images = hf_data["images"]
        assert isinstance(images, Sequence)
        size = self.info.get_hf_config().vision_config.image_size
        pixels = [self.info.preprocessing.pixels(image, size) for image in images]
        return BatchFeature({"pixel_values": torch.stack(pixels)})

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        return {"pixel_values": MultiModalFieldConfig.batched(MODALITY)}

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, Any],
        out_mm_kwargs: Any,
    ) -> Sequence[PromptUpdate]:
        tokens = self.info.tokens
        return [
            PromptReplacement(modality=MODALITY, target=[tokens.begin], replacement=tokens.image)
        ]

    def _apply_prompt_updates(
        self, token_ids: list[int], mm_prompt_updates: Mapping[str, Sequence[Any]]
    ) -> tuple[list[int], Mapping[str, list[PlaceholderFeaturesInfo]]]:
        """Expand the prompt; a picture's range is its soft tokens and nothing around them.

        Raises:
            ValueError: the prompt has more or fewer ``<start_of_image>`` than pictures.
        """
        tokens = self.info.tokens
        ids, first_soft = tokens.expand(token_ids)
        num_images = len(mm_prompt_updates.get(MODALITY, ()))
        if len(first_soft) != num_images:
            raise ValueError(
                f"The prompt has {len(first_soft)} <start_of_image> for {num_images} images."
            )
        places = [
            PlaceholderFeaturesInfo(
                modality=MODALITY,
                item_idx=index,
                start_idx=start,
                tokens=[tokens.soft] * tokens.soft_per_image,
                is_embed=None,
            )
            for index, start in enumerate(first_soft)
        ]
        return ids, {MODALITY: places} if places else {}
