"""Renders requests for vLLM's engine, in processes that hold none.

How images become pixels and soft tokens is decided by the model's processor (`gemma3_model`), what
a request says by the task. vLLM and torch are imported when a renderer is made.
"""

from __future__ import annotations

import logging
import operator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import RowError, UserError, one_line
from pipeline.contract.record import Outcome
from pipeline.engine.chat_template import PromptEncoder
from pipeline.engine.interface import Rendered
from pipeline.engine.model_files import model_folder
from pipeline.engine.profile import read_profile
from pipeline.engine.vllm_settings import model_config, prepare_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Request
    from pipeline.engine.profile import ModelProfile

PIXELS_GIB = 16.0
"""Limit of the cache for one request's pixels, never reached: pixels of a million soft tokens."""


class VllmRenderer:
    """Tokenizes, and runs the model's own multimodal processor outside of the engine.

    Args:
        config: The engine to render for.

    Raises:
        UserError: vLLM refuses one of `config.engine_args`, or the model's tokenizer or chat
            template cannot be used.
    """

    def __init__(self, config: EngineConfig) -> None:
        prepare_process()
        import torch
        from vllm.multimodal import MULTIMODAL_REGISTRY
        from vllm.multimodal.cache import MultiModalProcessorOnlyCache

        torch.set_num_threads(1)  # many renderers share a machine; each image is small
        self._max_images = config.max_images
        model = model_config(config, mm_processor_cache_gb=PIXELS_GIB)
        self.max_model_len: int = model.max_model_len
        self._profile = read_profile(config.model).prompted(config.prompt_format, config.model)
        self._prompts = _prompt_encoder(config.model, self._profile)
        self._stop = self._prompts.ids_of(self._profile.end_of_turn)
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
            scored_token_ids=self._scored(request),
            may_fail=request.may_fail,
        )

    def count(self, text: str) -> int:
        """See `Renderer.count`."""
        return self._prompts.count(text)

    def _scored(self, request: Request) -> tuple[int, ...]:
        """Ids of `Sampling.score_tokens`: the configuration's for verdicts, where it names them."""
        words = request.sampling.score_tokens
        if self._profile.continues_text:
            return self._prompts.next_token_ids(words, request.prompt)
        named = self._profile.verdict_token_ids
        return tuple(named[w] if w in named else self._prompts.token_id(w) for w in words)

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


def _prompt_encoder(model: str, profile: ModelProfile) -> PromptEncoder:
    """Load the tokenizer. Raises UserError where it cannot be loaded, or the template be parsed.

    Otherwise each row would fail by itself.
    """
    from jinja2 import TemplateSyntaxError
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model_folder(model))
    except Exception as error:  # it raises errors of many kinds
        raise UserError(
            f"model {model}: its tokenizer cannot be loaded: {one_line(error)}"
        ) from error
    encoder = PromptEncoder(tokenizer, profile.template, trims=not profile.continues_text)
    try:
        encoder.encode("x", None, 0, None)
    except TemplateSyntaxError as error:
        raise UserError(
            f"model {model}: its chat template is not Jinja (line {error.lineno}: {error.message})"
        ) from None
    except Exception as error:  # a template that takes no such prompt, for one
        logging.getLogger(__name__).debug(
            "the template refuses a plain prompt: %s", one_line(error)
        )
    return encoder


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
