"""Which quantized checkpoints the engine loads, as their configuration declares it.

vLLM finds out itself, a minute later and in its own words. What it computes on which device is its
to say; what it does not read at all is refused here, with what to take in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.contract.errors import UserError

LOADED = (
    "compressed-tensors",
    "fp8",
    "fbgemm_fp8",
    "gptq",
    "awq",
    "auto-round",
    "modelopt",
    "quark",
    "torchao",
)
"""Methods of Gemma 3 checkpoints that vLLM (0.32) reads, by the names in their configurations."""
INSTEAD = (
    "take a checkpoint that is not quantized, or one by compressed-tensors, fp8, GPTQ or AWQ; on a "
    "GPU engine_args quantization=fp8 quantizes one as it is loaded"
)
SPELLED = {"compressed_tensors": "compressed-tensors", "intel/auto-round": "auto-round"}


def check_quantization(model: str, config: Mapping[str, Any]) -> None:
    """Check that vLLM reads a checkpoint's weights.

    Args:
        model: The model, for the message.
        config: Its `config.json`.

    Raises:
        UserError: They are quantized by a method that vLLM does not read.
    """
    declared = _declared(config)
    if declared is None:
        return
    method = str(declared.get("quant_method") or "").lower()
    if not method:
        kind = (
            "MLX, for Apple's machines" if "bits" in declared else "a method that it does not name"
        )
        raise UserError(
            f"model {model} is quantized by {kind}, which vLLM does not read; {INSTEAD}"
        )
    if SPELLED.get(method, method) not in LOADED:
        raise UserError(
            f"model {model} is quantized by {method}, which vLLM does not read; {INSTEAD}"
        )


def _declared(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a configuration says of its weights' quantization; None where they are plain."""
    for part in (config, config.get("text_config") or {}):
        for name in ("quantization_config", "quantization"):
            if isinstance(part.get(name), Mapping):
                found: Mapping[str, Any] = part[name]
                return found
    return None
