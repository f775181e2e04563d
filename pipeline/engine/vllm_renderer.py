"""Renders requests for vLLM's engine, in processes that hold none.

How images become pixels and soft tokens is decided by the model's processor (`gemma3_model`), what
a request says by the task. vLLM and torch are imported when a renderer is made.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.engine.chat_template import PromptEncoder
from pipeline.engine.interface import Rendered
from pipeline.engine.profile import read_profile
from pipeline.engine.vllm_settings import engine_args, prepare_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Request

PIXELS_GIB = 16.0
"""Limit of the cache for one request's pixels, never reached: pixels of a million soft tokens."""


class VllmRenderer:
    """Tokenizes, and runs the model's own multimodal processor outside of the engine.

    Args:
        config: The engine to render for.

    Raises:
        UserError: `config.engine_args` names an argument that vLLM's engine does not take.
    """

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
        profile = read_profile(config.model)
        tokenizer = AutoTokenizer.from_pretrained(config.model)
        self._prompts = PromptEncoder(tokenizer, profile.chat_template or None)
        self._stop = self._prompts.ids_of(profile.end_of_turn)
        self._verdicts = profile.verdict_token_ids
        self._processor: Any = None
        if model.is_multimodal_model:
            self._processor = MULTIMODAL_REGISTRY.create_processor(model)
            self._no_images = partial(MultiModalProcessorOnlyCache, model)
        self._last: _Processed | None = None

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        """See `Renderer.render`.

        The prompt holds token ids; with images it is vLLM's `MultiModalInput`, pixels included.

        Raises:
            RowError: The prompt is too long, or has more images than `max_images`.
            ValueError: The chat template refuses the request, or one of `score_tokens` is not a
                single token.
        """
        from vllm.inputs import tokens_input

        ids = list(
            self._prompts.encode(request.prompt, request.system, len(images), request.languages)
        )
        prompt: Any = self._with_images(ids, images) if images else tokens_input(ids)
        length = len(prompt["prompt_token_ids"])
        # At least one position must be left for the answer.
        if length >= self.max_model_len:
            message = f"the prompt has {length} tokens, the model takes {self.max_model_len}"
            raise RowError(Outcome.TOO_LONG, "render", message)
        return Rendered(
            prompt,
            length,
            request.sampling,
            stop_token_ids=self._stop,
            scored_token_ids=tuple(
                self._verdicts[word] if word in self._verdicts else self._prompts.token_id(word)
                for word in request.sampling.score_tokens
            ),
            may_fail=request.may_fail,
        )

    def count(self, text: str) -> int:
        """See `Renderer.count`."""
        return self._prompts.count(text)

    def _with_images(self, ids: list[int], images: Sequence[Image]) -> Any:
        from vllm.multimodal.processing import ProcessorInputs, TimingContext

        if len(images) > self._max_images:
            message = f"{len(images)} images in a request, the limit is {self._max_images}"
            raise RowError(Outcome.TOO_LONG, "render", message)
        last = self._last
        if last is None or not last.is_of(images):
            # All requests of a row share the same pixel tensors, so that pickling the row stores
            # them once.
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
    """What was made of one request's images, for a next request with the same images.

    Attributes:
        images: The images.
        pixels: A processor cache of vLLM's that holds only these images.
        hashes: vLLM's hashes of them, once known; hashing takes as long as resizing.
    """

    images: tuple[Image, ...]
    pixels: Any
    hashes: Any = None

    def is_of(self, images: Sequence[Image]) -> bool:
        """Whether these are the same objects."""
        return len(images) == len(self.images) and all(map(operator.is_, images, self.images))
