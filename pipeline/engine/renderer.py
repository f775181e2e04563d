"""Renders requests for an engine, in processes that hold none.

Decides what a request becomes: token ids, and for images pixels and places besides. Needs Pillow,
numpy and the tokenizer only: there are many renderers on a machine, and torch and vLLM would take
each of them ten seconds and a gigabyte. What the ids and pixels of an image are is decided by
`gemma3_model`, what a request says by the task.
"""

from __future__ import annotations

import logging
import operator
from typing import TYPE_CHECKING

from gemma3_model.rendering import ImageRendering, RenderedPrompt
from pipeline.contract.errors import RowError, UserError, one_line
from pipeline.contract.record import Outcome
from pipeline.engine.chat_template import PromptEncoder
from pipeline.engine.interface import Rendered
from pipeline.engine.model_files import (
    load_tokenizer,
    model_folder,
    named_tokens,
    preprocessor_config,
    read_json,
)
from pipeline.engine.models.fetched import fetched
from pipeline.engine.profile import read_profile
from pipeline.profiling.stopwatch import step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from gemma3_model.rendering import Views
    from gemma3_model.tokenizer import TextTokenizer
    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Request
    from pipeline.engine.profile import ModelProfile


class GemmaRenderer:
    """Renders for one model.

    Args:
        config: The engine to render for.

    Raises:
        UserError: The model's tokenizer or chat template cannot be used, or cannot be fetched to
            this machine.
    """

    def __init__(self, config: EngineConfig) -> None:
        fetched(config.model, config.model_options, weights=False)
        self.max_model_len = config.max_model_len
        self._adapters = [*config.lora]
        self._chooses = config.lora_column is not None
        self._max_images = config.max_images
        tokenizer = load_tokenizer(config.model)  # first, for the profile asks what is in it
        self._profile = read_profile(config.model).prompted(config.prompt_format, config.model)
        self._prompts = _prompt_encoder(config.model, self._profile, tokenizer)
        self._stop = self._prompts.ids_of(self._profile.end_of_turn)
        self._images: ImageRendering | None = None
        if self._profile.has_vision:
            self._images = _image_rendering(config, tokenizer)
        self._last: tuple[tuple[Image, ...], tuple[Views, ...]] = ((), ())

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        """See `Renderer.render`.

        The prompt is a `gemma3_model.rendering.RenderedPrompt`.

        Raises:
            RowError: The prompt is too long, or has more images than `max_images`; or there is no
                adapter of that name.
            ValueError: The chat template refuses the request, or one of `score_tokens` is not a
                single token.
        """
        return self._render(request, self._views(images) if images else ())

    def render_follow_up(self, request: Request, earlier: Rendered | None) -> Rendered:
        """See `FollowUpRenderer.render_follow_up`; raises as `render` does."""
        return self._render(request, () if earlier is None else earlier.prompt.images)

    def _render(self, request: Request, views: tuple[Views, ...]) -> Rendered:
        ids = list(self.token_ids(request, len(views)))
        prompt = self._images.prompt(ids, views) if self._images and views else RenderedPrompt(ids)
        length = len(prompt.token_ids)
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
            nbytes=prompt.nbytes,
            adapter=self._adapter(request),
            labels=request.labels,
        )

    def token_ids(self, request: Request, images: int) -> tuple[int, ...]:
        """The ids of a request's prompt, with one placeholder for each image.

        Raises:
            ValueError: The chat template refuses the request.
        """
        return self._prompts.encode(
            request.prompt, request.system, images, request.languages, request.labels
        )

    def count(self, text: str) -> int:
        """See `Renderer.count`."""
        return self._prompts.count(text)

    def _adapter(self, request: Request) -> str | None:
        """Of an engine with one adapter that no column chooses, that one."""
        if not self._chooses:
            return next(iter(self._adapters), None)
        if request.adapter is not None and request.adapter not in self._adapters:
            raise RowError(
                Outcome.MISSING_INPUT,
                "render",
                f"there is no adapter '{request.adapter}'; lora has {', '.join(self._adapters)}",
            )
        return request.adapter

    def _scored(self, request: Request) -> tuple[int, ...]:
        """Ids of `Sampling.score_tokens`: the configuration's for verdicts, where it names them."""
        words = request.sampling.score_tokens
        if self._profile.continues_text:
            return self._prompts.next_token_ids(words, request.prompt)
        named = self._profile.verdict_token_ids
        return tuple(named[w] if w in named else self._prompts.token_id(w) for w in words)

    def _views(self, images: Sequence[Image]) -> tuple[Views, ...]:
        assert self._images is not None, "a run with images is refused for a model without vision"
        if len(images) > self._max_images:
            message = f"{len(images)} images in a request, the limit is {self._max_images}"
            raise RowError(Outcome.TOO_LONG, "render", message)
        last, views = self._last
        if len(last) != len(images) or not all(map(operator.is_, last, images)):
            # All requests of a row share the same pixels, so that pickling the row stores them
            # once.
            with step("resize"):
                views = tuple(map(self._images.views, images))
            self._last = tuple(images), views
        return self._last[1]


def _image_rendering(config: EngineConfig, tokenizer: TextTokenizer) -> ImageRendering:
    return ImageRendering(
        read_json(config.model, model_folder(config.model) / "config.json"),
        preprocessor_config(config.model),
        tokenizer,
        pan_and_scan=config.pan_and_scan,
    )


def _prompt_encoder(model: str, profile: ModelProfile, tokenizer: TextTokenizer) -> PromptEncoder:
    """Raises UserError where the template cannot be parsed; otherwise each row would fail."""
    from jinja2 import TemplateSyntaxError

    try:
        encoder = PromptEncoder(tokenizer, profile.template, named_tokens(model))
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
