"""Renders requests for a server: the body of each HTTP request, but for its seed.

Decides what a request becomes: messages, which the server puts into the model's own chat template,
or raw text that the model continues; and in which fields it says how the answer is sampled. There
is no tokenizer here: the server counts, and how long a text is can only be estimated.
"""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.engine.endpoint.images import data_url
from pipeline.engine.interface import Rendered
from pipeline.engine.vllm_sampling import LOOP_COUNT, LOOP_TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Request, Sampling

CHAT, COMPLETIONS = "/chat/completions", "/completions"
VLLM = "vllm"
"""The `owned_by` of vLLM's models."""
LISTED = 20
"""Likeliest tokens that are listed for `score_tokens`: the most that OpenAI and vLLM give."""
LISTED_OF_COMPLETIONS = 5
"""The same of `/completions` elsewhere than at vLLM."""
LEAST_IMAGE_TOKENS = 256
"""Of Gemma 3: its soft tokens, without what is around them."""
BYTES_PER_TOKEN = 3
"""Of letters in UTF-8. Gemma 3 has about four in English, and six (two signs) in Chinese."""
MOST_BYTES_PER_TOKEN = 8
"""What a token has at most, on average over a text."""


@dataclass(frozen=True)
class Prompt:
    """What the engine sends.

    Attributes:
        path: Of the API.
        body: The JSON, without a seed.
        continues_text: Whether it is raw text.
    """

    path: str
    body: Mapping[str, Any]
    continues_text: bool = False


class EndpointRenderer:
    """Renders for one model of a server.

    Args:
        config: The engine.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.max_model_len = config.max_model_len
        self._model = config.model
        self._max_images = config.max_images
        self._is_vllm = config.served_by == VLLM
        self._is_raw = config.prompt_format == "raw"
        self._last: tuple[tuple[Image, ...], tuple[str, ...]] = ((), ())

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        """See `Renderer.render`.

        The prompt is a `Prompt`. `prompt_tokens` is 0, as the server counts them.

        Raises:
            RowError: It has more images than `max_images`, or is too long in any case.
        """
        if len(images) > self._max_images:
            message = f"{len(images)} images in a request, the limit is {self._max_images}"
            raise RowError(Outcome.TOO_LONG, "render", message)
        return self._rendered(request, self._urls(images) if images else ())

    def render_follow_up(self, request: Request, earlier: Rendered | None) -> Rendered:
        """See `FollowUpRenderer.render_follow_up`."""
        return self._rendered(request, () if earlier is None else _urls_in(earlier.prompt.body))

    def _rendered(self, request: Request, urls: Sequence[str]) -> Rendered:
        assert request.languages is None, "the profile of a served model asks for no languages"
        sampling = replace(request.sampling, max_tokens=self._most_tokens(request, len(urls)))
        body = {
            "model": self._model,
            **self._said(request, urls),
            **sampling_fields(sampling, is_vllm=self._is_vllm, is_raw=self._is_raw),
        }
        prompt = Prompt(COMPLETIONS if self._is_raw else CHAT, body, self._is_raw)
        return Rendered(
            prompt,
            0,
            request.sampling,
            may_fail=request.may_fail,
            nbytes=sum(map(len, urls)),
            labels=request.labels,
        )

    def count(self, text: str) -> int:
        """See `Renderer.count`: rather too many tokens than too few."""
        return estimated_tokens(text)

    def _most_tokens(self, request: Request, images: int) -> int:
        """Tokens of the answer, at most.

        vLLM (0.32) ends an answer where the context does, as an engine of the run's own. Other
        servers refuse what may not fit: they are asked for what is left if the prompt is as short
        as it can be. What they refuse is `too_long`; an answer is not cut by an estimate.

        Raises:
            RowError: The prompt alone is longer than the context, however short its tokens are.
        """
        wanted = min(request.sampling.max_tokens, self.max_model_len)
        if self._is_vllm:
            return wanted
        texts = (request.prompt, request.system or "", *request.labels)
        least = sum(len(text.encode("utf-8", "replace")) for text in texts) // MOST_BYTES_PER_TOKEN
        left = self.max_model_len - least - images * LEAST_IMAGE_TOKENS
        if left < 1:
            limit = f"the limit is {self.max_model_len:,}"
            message = f"the prompt has {self.max_model_len - left:,} tokens or more, {limit}"
            raise RowError(Outcome.TOO_LONG, "render", message)
        return min(wanted, left)

    def _said(self, request: Request, urls: Sequence[str]) -> dict[str, Any]:
        if self._is_raw:
            assert not urls, "a run with images is refused for raw text"
            before = "" if request.system is None else f"{request.system}\n\n"
            return {"prompt": before + request.prompt}
        content: str | list[dict[str, Any]] = request.prompt
        if urls:
            content = _shown(urls, request.labels)
            if request.prompt.strip():
                content.append({"type": "text", "text": request.prompt})
        messages = [{"role": "user", "content": content}]
        if request.system is not None:
            messages.insert(0, {"role": "system", "content": request.system})
        return {"messages": messages}

    def _urls(self, images: Sequence[Image]) -> tuple[str, ...]:
        """The same texts for all requests of a row, so that pickling the row stores them once."""
        last, urls = self._last
        if len(last) != len(images) or not all(map(operator.is_, last, images)):
            urls = tuple(map(data_url, images))
            self._last = tuple(images), urls
        return urls


def sampling_fields(sampling: Sampling, *, is_vllm: bool, is_raw: bool) -> dict[str, Any]:
    """The fields of a request that say how its answer is sampled, but for the seed.

    Those that only vLLM knows are sent to vLLM alone, but for `top_k` where it is set.

    Args:
        sampling: How.
        is_vllm: Whether vLLM answers.
        is_raw: Whether it goes to `/completions`.
    """
    if sampling.score_tokens:
        listed: dict[str, Any] = {"logprobs": True, "top_logprobs": LISTED}
        if is_raw:
            listed = {"logprobs": LISTED if is_vllm else LISTED_OF_COMPLETIONS}
        return {"max_tokens": 1, "temperature": 0.0, **listed}
    fields: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
    }
    if sampling.temperature > 0:
        fields["top_p"] = sampling.top_p
        if sampling.top_k or is_vllm:  # otherwise it takes that of `generation_config.json`
            fields["top_k"] = sampling.top_k
    if sampling.n > 1:
        fields["n"] = sampling.n
    for name in ("presence_penalty", "frequency_penalty"):
        if getattr(sampling, name):
            fields[name] = getattr(sampling, name)
    if sampling.repetition_penalty != 1:
        fields["repetition_penalty"] = sampling.repetition_penalty
    if sampling.stop:
        fields["stop"] = [*sampling.stop]
    if sampling.mean_log_probability:
        fields["logprobs"] = 1 if is_raw else True  # of the sampled tokens, and the likeliest
    if sampling.json_schema is not None:
        # With or without free white space, the server decides; vLLM (0.32) ignores the request's
        # own `disable_any_whitespace`.
        schema = {"name": "answer", "schema": json.loads(sampling.json_schema)}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if sampling.ends_loops and is_vllm:
        loops = {"max_pattern_size": LOOP_TOKENS, "min_count": LOOP_COUNT}
        fields["repetition_detection"] = loops
    return fields


def _shown(urls: Sequence[str], labels: Sequence[str]) -> list[dict[str, Any]]:
    """The images, each after its label, if it has one."""
    content: list[dict[str, Any]] = []
    for label, url in zip(labels or ("",) * len(urls), urls, strict=True):
        content += [{"type": "text", "text": label}] if label else []
        content.append({"type": "image_url", "image_url": {"url": url}})
    return content


def _urls_in(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The images in the body of a request."""
    parts = (part for said in body.get("messages", ()) for part in _parts(said["content"]))
    return tuple(part["image_url"]["url"] for part in parts if part["type"] == "image_url")


def _parts(content: str | Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    return () if isinstance(content, str) else content


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has, rather too many: digits and signs are one each."""
    single = sum(sign.isascii() and not (sign.isalpha() or sign.isspace()) for sign in text)
    letters = len(text.encode("utf-8", "replace")) - single
    return single + -(-letters // BYTES_PER_TOKEN)
