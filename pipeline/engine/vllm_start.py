"""Starts vLLM's engine with our model, in `vllm_process`.

Decides what is told of the start, and which of vLLM's refusals are the user's to fix.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import UserError, one_line
from pipeline.engine.adapters import read_adapters
from pipeline.engine.vllm_settings import engine_args, prepare_process, refusals_in_a_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pipeline.contract.config import EngineConfig


def import_vllm() -> None:
    """Import what every start needs, before it is known which engine is asked for."""
    prepare_process()
    import vllm.v1.engine.llm_engine  # noqa: F401

    from gemma3_model.registration import register_loaded

    register_loaded()


def start(config: EngineConfig, tell: Callable[[str], None]) -> Any:
    """Make vLLM's `LLMEngine`, with its core in this process.

    Args:
        config: The engine.
        tell: Called with each step of the start as it begins, but for the imports.

    Raises:
        UserError: The installed vLLM has no device here, or refuses one of `engine_args`.
    """
    prepare_process()
    _require_device()
    from vllm.utils.system_utils import set_process_title
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.executor import Executor

    from gemma3_model.registration import register_loaded

    set_process_title("Engine")
    register_loaded()
    usage = _usage_context()
    tell("configuration")
    made = engine_args(config)
    with refusals_in_a_line(config):
        settings = made.create_engine_config(usage)
    with _one_tokenizer():
        return LLMEngine(
            settings,
            _telling(Executor.get_class(settings), tell),
            log_stats=not made.disable_log_stats,
            usage_context=usage,
        )


def load_adapters(engine: Any, config: EngineConfig) -> Mapping[str, Any]:
    """Load the adapters, so that what vLLM refuses is told before any row.

    Args:
        engine: vLLM's `LLMEngine`.
        config: The engine.

    Returns:
        vLLM's `LoRARequest` by name.

    Raises:
        UserError: vLLM refuses one.
    """
    from vllm.lora.request import LoRARequest

    requests = {}
    for number, adapter in enumerate(read_adapters(config), 1):
        request = LoRARequest(adapter.name, number, str(adapter.path))
        try:
            engine.add_lora(request)
        except Exception as error:  # vLLM's own kinds, of an adapter it does not take
            named = config.lora[adapter.name]
            raise UserError(f"lora: adapter {named}: vLLM says: {one_line(error)}") from error
        requests[adapter.name] = request
    return requests


@contextlib.contextmanager
def _one_tokenizer() -> Iterator[None]:
    """Keep vLLM (0.32) from copying the tokenizer for threads that render (pull request 41181).

    Nothing renders in this process. Two deep copies of Gemma's own, with an object for each of its
    6,000 control tokens, took 8 to 10 s of a slow CPU's time, and the engine with one 5.
    """
    from vllm.renderers import hf

    copying = hf.maybe_make_thread_pool
    hf.maybe_make_thread_pool = lambda tokenizer, copies=1: tokenizer  # noqa: ARG005
    try:
        yield
    finally:
        hf.maybe_make_thread_pool = copying


def _telling(executor: type, tell: Callable[[str], None]) -> Any:
    """An executor of vLLM that also tells the steps of the start, of which it does the most."""

    class TellingExecutor(executor):  # type: ignore[misc]
        def _init_executor(self) -> None:
            tell("weights")
            super()._init_executor()

        def determine_available_memory(self) -> Any:
            tell("compile")  # a first run through the model, which shows the memory it needs
            return super().determine_available_memory()

        def compile_or_warm_up_model(self) -> None:
            tell("graphs")
            super().compile_or_warm_up_model()

    return TellingExecutor


def _usage_context() -> Any:
    """The usage that vLLM (0.32) chooses the size of its steps by.

    On an H200 a step has 16,384 tokens for offline batches, as here, and 2,048 for an engine by
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
