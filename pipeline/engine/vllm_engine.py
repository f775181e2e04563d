"""Answers requests with vLLM's `AsyncLLM`, running our model.

Decides which failure is a row's and which the engine's. vLLM is imported when an engine is made.
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import RowError, UserError, one_line
from pipeline.contract.record import Outcome
from pipeline.contract.task import Generation
from pipeline.engine.detokenizer import Detokenizer
from pipeline.engine.interface import Backend, EngineDiedError, EngineStats
from pipeline.engine.orphans import OrphanCleanup
from pipeline.engine.renderer import GemmaRenderer
from pipeline.engine.sockets import SocketFolder
from pipeline.engine.vllm_sampling import sampling_params
from pipeline.engine.vllm_settings import (
    check_engine_args,
    engine_args,
    prepare_process,
    refusals_in_a_line,
)
from pipeline.engine.watchdog import Watchdog, keep_alive

if TYPE_CHECKING:
    from pipeline.contract.config import EngineConfig
    from pipeline.engine.interface import Rendered

SHUTDOWN_SECONDS = 30
FINISHED = ("stop", "length", "repetition")
"""Reasons of vLLM for the end of an answer; the others are failures."""


class VllmEngine:
    """An `InferenceEngine`; made once the weights are loaded, which takes seconds to minutes.

    Args:
        config: The engine.

    Raises:
        UserError: The installed vLLM has no device here, or refuses one of `engine_args`.
    """

    def __init__(self, config: EngineConfig) -> None:
        prepare_process()
        _require_device()
        from vllm.v1.engine.async_llm import AsyncLLM

        from gemma3_model.processor import engine_input

        self._engine_input = engine_input
        usage = _usage_context()
        made = engine_args(config)
        with refusals_in_a_line(config):
            settings = made.create_engine_config(usage)
        self._sockets = SocketFolder()
        self._orphan_cleanup = OrphanCleanup(self._sockets.path)
        try:
            with self._sockets.used():
                self._engine = AsyncLLM.from_vllm_config(
                    settings,
                    usage_context=usage,
                    enable_log_requests=made.enable_log_requests,
                    disable_log_stats=made.disable_log_stats,
                )
        except Exception:
            self._orphan_cleanup.cancel()  # vLLM has ended what it started
            raise  # on SIGTERM, which raises no `Exception`, the watcher stays to the end
        self._orphan_cleanup.engine_is_ready()
        self._watchdog = Watchdog(config.stall_seconds)
        self._watch: asyncio.Task[None] | None = None
        self._model_class: str | None = None

    @property
    def model_class(self) -> str:
        """See `InferenceEngine.model_class`; reported by the engine's workers."""
        assert self._model_class is not None, "asked before the first request"
        return self._model_class

    @cached_property
    def _detokenizer(self) -> Detokenizer:
        return Detokenizer(self._engine.get_tokenizer())

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        """See `InferenceEngine.generate`.

        Raises:
            RowError: vLLM refused or ended this request.
            EngineDiedError: The engine core is dead.
        """
        if self._watch is None:
            # The engine core answers `is_sleeping` between two steps.
            self._watch = asyncio.create_task(keep_alive(self._engine.is_sleeping, self._watchdog))
        try:
            if self._model_class is None:
                (self._model_class, *_) = await self._engine.collective_rpc("loaded_model_class")
            return await self._answer(rendered, key)
        except Exception as error:
            if self._engine.errored:
                self._sockets.remove()  # whoever holds this engine ends its process now
                raise EngineDiedError(f"the engine died: {one_line(error)}") from error
            cause = error.__cause__ or error
            raise RowError(Outcome.ENGINE_ERROR, "generate", one_line(cause)) from error

    async def _answer(self, rendered: Rendered, key: str) -> Generation:
        params = sampling_params(rendered, key)
        prompt = self._engine_input(rendered.prompt)
        outputs = [out async for out in self._engine.generate(prompt, params, key)]
        final = outputs[-1]  # the only one, because of FINAL_ONLY
        answer = final.outputs[0]
        if answer.finish_reason not in FINISHED:
            message = f"the engine ended the request ({answer.finish_reason})"
            raise RowError(Outcome.ENGINE_ERROR, "generate", message)
        scored = rendered.scored_token_ids
        first, *others = (
            self._detokenizer.answer(output, final.prompt_token_ids, stop=rendered.sampling.stop)
            for output in final.outputs
        )
        return Generation(
            text=first,
            prompt_tokens=len(final.prompt_token_ids),
            output_tokens=sum(len(output.token_ids) for output in final.outputs),
            finish_reason=answer.finish_reason,
            others=tuple(others),
            log_probabilities=tuple(answer.logprobs[0][token].logprob for token in scored),
        )

    def stats(self) -> EngineStats:
        """See `InferenceEngine.stats`."""
        return EngineStats()

    def close(self) -> None:
        """Stop the engine and its processes; to be called at exit too.

        Left to vLLM's own exit handlers, an engine core can hang for minutes (0.32). It gets time
        to end its workers: killed before that, it leaves shared memory behind.
        """
        self._watchdog.stop()
        self._engine.shutdown(timeout=SHUTDOWN_SECONDS)
        self._orphan_cleanup.cancel()
        self._sockets.remove()


VLLM = Backend(
    name="vllm",
    renderer=GemmaRenderer,
    engine=VllmEngine,
    needs=("vLLM",),
    check=check_engine_args,
)


def _usage_context() -> Any:
    """The usage that vLLM (0.32) chooses the size of its steps by.

    On an H200 a step has 16,384 tokens for offline batches, as here, and 2,048 for `AsyncLLM` by
    default (pull request 37393). On a CPU larger steps were no faster (bundled model, two cores).
    """
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext

    return UsageContext.ENGINE_CONTEXT if current_platform.is_cpu() else UsageContext.LLM_CLASS


def _require_device() -> None:
    """Only for engines: renderers need no device, and may run on machines without one."""
    from vllm.platforms import current_platform

    if current_platform.is_unspecified():
        raise UserError(
            "the engine has no GPU here, and the vLLM that is installed runs on nothing else; "
            "fix the GPU's driver, or install this project with [cpu] in the place of [gpu]"
        )
