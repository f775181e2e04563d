"""Answers requests with vLLM's `AsyncLLM`, our model in it.

vLLM is imported when an engine is made.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import zlib
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import RowError, UserError, one_line
from pipeline.contract.record import Outcome
from pipeline.contract.task import Generation
from pipeline.engine.interface import Backend, EngineDiedError
from pipeline.engine.orphans import OrphanCleanup
from pipeline.engine.vllm_renderer import VllmRenderer
from pipeline.engine.vllm_settings import engine_args, prepare_process
from pipeline.engine.watchdog import Watchdog, keep_alive

if TYPE_CHECKING:
    from pipeline.contract.config import EngineConfig
    from pipeline.engine.interface import Rendered


class VllmEngine:
    """vLLM's `AsyncLLM` with our model in it."""

    def __init__(self, config: EngineConfig) -> None:
        """Start the engine; returns when the weights are loaded (seconds to minutes).

        Raises:
            UserError: The machine has no device that the installed vLLM runs on.
        """
        prepare_process()
        _require_device()
        from vllm.v1.engine.async_llm import AsyncLLM

        self._engine = AsyncLLM.from_engine_args(
            engine_args(config), usage_context=_usage_context()
        )
        children = multiprocessing.active_children()
        self._orphan_cleanup = OrphanCleanup(
            child.pid for child in children if child.pid is not None
        )
        self._watchdog = Watchdog(config.stall_seconds)
        self._watch: asyncio.Task[None] | None = None
        self._model_class: str | None = None

    @property
    def model_class(self) -> str:
        """As the engine's workers report it; known once something was generated."""
        assert self._model_class is not None, "asked before the first request"
        return self._model_class

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        """See `InferenceEngine.generate`."""
        if self._watch is None:
            # Answered by the engine's core between two steps.
            self._watch = asyncio.create_task(keep_alive(self._engine.is_sleeping, self._watchdog))
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
            log_probabilities=_log_probabilities(answer, rendered.scored_token_ids),
        )

    def close(self) -> None:
        """Shut down explicitly: an engine core left to the exit handlers can hang for minutes.

        One that is killed before it has ended its workers leaves shared memory behind, so it is
        given time.
        """
        self._watchdog.stop()
        self._engine.shutdown(timeout=30)
        self._orphan_cleanup.cut()


VLLM = Backend(renderer=VllmRenderer, engine=VllmEngine)


def _usage_context() -> Any:
    """Who uses the engine, by which vLLM sizes its steps.

    On an H200 16,384 tokens for a batch of rows, as here, and 2,048 for an asynchronous engine by
    itself. On a CPU the larger steps were no faster (bundled model, two cores).
    """
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext

    return UsageContext.ENGINE_CONTEXT if current_platform.is_cpu() else UsageContext.LLM_CLASS


def _require_device() -> None:
    """Of engines alone: renderers need none, and may be on machines without."""
    from vllm.platforms import current_platform

    if current_platform.is_unspecified():
        raise UserError(
            "the engine has no GPU here, and the vLLM that is installed runs on nothing else; "
            "fix the GPU's driver, or install this project with [cpu] in the place of [gpu]"
        )


def _sampling_params(rendered: Rendered, key: str) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    sampling = rendered.sampling
    if rendered.scored_token_ids:
        # Never beside requests with `logprobs=k`: in one batch those turn these to -inf (0.32).
        return SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprob_token_ids=[*rendered.scored_token_ids],
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
