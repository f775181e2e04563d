"""Decides whether the vision tower of a quantized checkpoint is quantized.

In nearly all Gemma 3 checkpoints it is not, which the configuration says in a list of names: of
every layer, of the tower as a whole, or patterns, under any of the namings of
:mod:`gemma3_model.weights`. vLLM 0.32 compares the list with our names layer by layer, each method
by its own rule: ``fp8`` knows only whole names of layers, and the patterns of compressed-tensors
are matched as they are written, for a naming that may not be ours. So an entry for the whole tower
is handled here; lists of layers are left to vLLM, which gets our table of names. The projector has
no linear layers and is never quantized.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from vllm.model_executor.layers.quantization import QuantizationConfig

_LISTS: Final = ("ignore", "ignored_layers", "modules_to_not_convert")
"""Names of that list, by quantization method."""

_TOWERS: Final = tuple(
    f"{wrapper}vision_tower{inner}"
    for wrapper in ("", "model.", "model.model.")
    for inner in ("", ".vision_model")
)
_KINDS: Final = (
    *(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")),
    *("mlp.fc1", "mlp.fc2"),
)
_LAYERS: Final = tuple(f".encoder.layers.{layer}.{kind}" for layer in (0, 10) for kind in _KINDS)
"""Appended to a tower's name: enough layers to tell a pattern for all from one for some."""


def of_the_tower(
    quant_config: QuantizationConfig | None, hf_config: Any
) -> QuantizationConfig | None:
    """``quant_config``, or None where the checkpoint's tower is not quantized."""
    return None if any(map(_is_the_tower, _unquantized(hf_config))) else quant_config


def _unquantized(hf_config: Any) -> Iterator[str]:
    """The entries of the checkpoint's list of what is not quantized."""
    for config in (hf_config, hf_config.get_text_config()):
        stored = getattr(config, "quantization_config", None) or {}
        for name in _LISTS:
            yield from stored.get(name) or ()


def _is_the_tower(entry: str) -> bool:
    """Whether an entry names, or its pattern matches, every layer of the tower."""
    if entry.startswith("re:"):
        pattern = re.compile(entry.removeprefix("re:"))
        return any(all(pattern.match(tower + layer) for layer in _LAYERS) for tower in _TOWERS)
    return "vision" in entry and any(f".{tower}.".endswith(f".{entry}.") for tower in _TOWERS)
