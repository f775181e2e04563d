"""Renders requests for vLLM's engine, in processes that hold none.

vLLM and torch are imported when a renderer is made. How images become pixels and soft tokens is
the model's processor's (`gemma3_model`), what a request says is the task's.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.engine.chat_template import PromptEncoder
from pipeline.engine.checkpoint import chat_template
from pipeline.engine.interface import Rendered
from pipeline.engine.vllm_settings import engine_args, prepare_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Request

END_OF_TURN = "<end_of_turn>"
"""What ends the model's turn in Gemma's template. Some checkpoints (TranslateGemma) name only
`<eos>` as the end, and would write on for ever."""
PIXELS_GIB = 16.0
"""Room for the pixels of one request's images, never filled: those of a million soft tokens."""


class VllmRenderer:
    """Tokenizes, and runs the model's own multimodal processor outside the engine."""

    def __init__(self, config: EngineConfig) -> None:
        prepare_process()
        import torch
        from transformers import AutoTokenizer
        from vllm.multimodal import MULTIMODAL_REGISTRY
        from vllm.multimodal.cache import MultiModalProcessorOnlyCache

        torch.set_num_threads(1)  # many renderers share a machine; each image is small
        self._max_images = config.max_images
        model = engine_args(config, mm_processor_cache_gb=PIXELS_GIB).create_model_config()
        self.max_model_len: int = model.max_model_len
        tokenizer = AutoTokenizer.from_pretrained(config.model)
        self._prompts = PromptEncoder(tokenizer, chat_template(Path(config.model)))
        self._stop = self._prompts.ids_of(END_OF_TURN)
        self._verdicts = _verdict_ids(model.hf_config)
        self._processor: Any = None
        if model.is_multimodal_model:
            self._processor = MULTIMODAL_REGISTRY.create_processor(model)
            self._no_images = partial(MultiModalProcessorOnlyCache, model)
        self._last: _Processed | None = None

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        """Token ids for text; for images vLLM's `MultiModalInput`, with the pixels in it."""
        ids = list(
            self._prompts.encode(request.prompt, request.system, len(images), request.languages)
        )
        prompt = self._with_images(ids, images) if images else _text_only(ids)
        length = len(prompt["prompt_token_ids"])
        # At least one position must be left to answer in.
        if length >= self.max_model_len:
            message = f"the prompt has {length} tokens, the model takes {self.max_model_len}"
            raise RowError(Outcome.TOO_LONG, "render", message)
        weighed = tuple(self._id_of_word(word) for word in request.sampling.score_tokens)
        return Rendered(prompt, length, request.sampling, self._stop, weighed, request.may_fail)

    def count(self, text: str) -> int:
        """Tokens of a text by itself."""
        return self._prompts.count(text)

    def _id_of_word(self, word: str) -> int:
        if word in self._verdicts:
            return self._verdicts[word]
        return self._prompts.id_of_word(word)

    def _with_images(self, ids: list[int], images: Sequence[Image]) -> Any:
        from vllm.multimodal.processing import ProcessorInputs, TimingContext

        if len(images) > self._max_images:
            message = f"{len(images)} images in a request, the limit is {self._max_images}"
            raise RowError(Outcome.TOO_LONG, "render", message)
        last = self._last
        if last is None or not last.is_of(images):
            # The image's pixels are made once for all requests of a row, and are the same object
            # in each, so that they are once in what is pickled.
            last = self._last = _Processed(tuple(images), self._no_images())
        items = self._processor.info.parse_mm_data({"image": list(images)})
        inputs = ProcessorInputs(
            prompt=ids, mm_data_items=items, mm_uuid_items=last.hashes, cache=last.pixels
        )
        prompt = self._processor.apply(inputs, TimingContext())
        last.hashes = prompt["mm_hashes"]
        return prompt


@dataclass(slots=True)
class _Processed:
    """What was made of a request's images, for the next request that has the very same.

    Attributes:
        images: The images.
        pixels: vLLM's cache, with nothing but these in it.
        hashes: Their hashes, once they are known; they take as long as resizing.
    """

    images: tuple[Image, ...]
    pixels: Any
    hashes: Any = None

    def is_of(self, images: Sequence[Image]) -> bool:
        """Whether these are the same objects."""
        return len(images) == len(self.images) and all(map(operator.is_, images, self.images))


def _text_only(ids: list[int]) -> Any:
    from vllm.inputs import tokens_input

    return tokens_input(ids)


def _verdict_ids(hf_config: Any) -> dict[str, int]:
    """The tokens that stand for Yes and No, where the checkpoint says so (ShieldGemma 2)."""
    names = {"Yes": "yes_token_index", "No": "no_token_index"}
    found = {word: getattr(hf_config, name, None) for word, name in names.items()}
    return {word: token for word, token in found.items() if token is not None}
