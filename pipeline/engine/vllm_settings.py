"""Decides what vLLM is told by us, in the processes that render and in those that generate.

vLLM is imported when a function is called. Which model class runs is the plugin's (`gemma3_model`).
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import UserError
from pipeline.contract.suggest import suggestion

if TYPE_CHECKING:
    from pipeline.contract.config import EngineConfig

LOADED_MODEL = "gemma3_model.inspection.LoadedModel"
"""Worker extension that says which class the engine really loaded."""
ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",  # nothing about anyone's data leaves the machine
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; vLLM takes half the memory otherwise
    "TOKENIZERS_PARALLELISM": "false",
}
"""Settings vLLM reads from the environment, unless the user set them."""


def prepare_process() -> None:
    """Set this process up for vLLM, and load our plugin into it."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from vllm.platforms import current_platform
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    if current_platform.is_cpu():
        # Nothing is compiled there but a part of vLLM 0.32's sampler, which then needs a C++
        # compiler (`InvalidCxxCompiler` where there is none).
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


def engine_args(config: EngineConfig, **own: Any) -> Any:
    """The arguments of vLLM's engine, and of what renders for it.

    Args:
        config: The engine.
        own: Arguments that the caller has of its own.

    Raises:
        UserError: The user names an argument that vLLM's engine does not take.
    """
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
