"""Decides how vLLM is configured, the same in processes that render and in those that generate.

In short: quiet, no usage statistics, prefix caching also for local layers, guided JSON without free
white space, no compilation on a CPU. What the user sets in `engine_args` wins over all of it. Which
class runs the model is decided by the plugin (`gemma3_model`). vLLM is imported inside functions.
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import UserError
from pipeline.contract.suggest import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.contract.config import EngineConfig

LOADED_MODEL = "gemma3_model.inspection.LoadedModel"
"""Worker extension that reports which class the engine really loaded."""
ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",  # nothing about anyone's data leaves the machine
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; vLLM would take half of the memory
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment variables that are set unless the user has set them."""


def prepare_process() -> None:
    """Set `ENVIRONMENT` in this process and load our plugin; before vLLM is used in it."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from vllm.platforms import current_platform
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    if current_platform.is_cpu():
        # With `enforce_eager` vLLM (0.32) compiles nothing but a part of its sampler, which needs a
        # C++ compiler (`InvalidCxxCompiler` without one; pull request 47756).
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


def engine_args(config: EngineConfig, **overrides: Any) -> Any:
    """vLLM's `AsyncEngineArgs` for an engine, or for a renderer of its requests.

    Args:
        config: The engine.
        **overrides: Arguments that differ for this caller; `config.engine_args` still wins.

    Raises:
        UserError: `config.engine_args` names an argument that vLLM's engine does not take.
    """
    from vllm.config import StructuredOutputsConfig
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    _check_names(config.engine_args, [field.name for field in fields(AsyncEngineArgs)])
    is_cpu = current_platform.is_cpu()
    ours: dict[str, Any] = {
        "model": config.model,
        "dtype": config.dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.requests(on_gpu=not is_cpu),
        "tensor_parallel_size": config.tensor_parallel_size,
        "limit_mm_per_prompt": {"image": config.max_images},
        "mm_processor_kwargs": {"do_pan_and_scan": True} if config.pan_and_scan else None,
        "enable_prefix_caching": True,
        # By default vLLM (0.32) caches for local layers only what the end of a prompt needs: two
        # requests whose common prefix is longer than the window would share none of it.
        "prefix_cache_retention_interval": None,
        # Requests arrive rendered from other processes, so this cache would never be hit.
        "mm_processor_cache_gb": 0,
        # On a CPU compiling takes longer than it saves, and needs a C++ compiler.
        "enforce_eager": is_cpu,
        # If white space is free, a model can write nothing else until its limit.
        "structured_outputs_config": StructuredOutputsConfig(
            backend="xgrammar", disable_any_whitespace=True
        ),
        "worker_extension_cls": LOADED_MODEL,
        "disable_log_stats": True,
    }
    return AsyncEngineArgs(**{**ours, **overrides, **config.engine_args})


def _check_names(names: Iterable[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            guess = suggestion(name, known)
            raise UserError(f"engine_args: vLLM's engine takes no '{name}'; {guess}".rstrip("; "))
