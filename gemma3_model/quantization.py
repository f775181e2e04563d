"""Decides whether a quantized checkpoint has left the vision tower as it was.

Quantized Gemma 3 checkpoints nearly always have, and say so in a list of names: of every layer, of
the tower as a whole, or as patterns, and under any of the namings of :mod:`gemma3_model.weights`.
vLLM 0.32 compares the list with our names layer by layer, each method by a rule of its own:
``fp8`` knows only whole names of layers, and the patterns of compressed-tensors stay as they are
written, for a naming that may not be ours. So an entry that speaks of the whole tower is understood
here; lists of layers are left to vLLM, to which the table of names is given. The projector is not
made of linear layers and is never quantized.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from vllm.model_executor.layers.quantization import QuantizationConfig

_LISTS: Final = ("ignore", "ignored_layers", "modules_to_not_convert")
"""What the methods call the list."""

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
"""Behind a tower's name: enough layers to tell a pattern for all from one for some."""


def of_the_tower(
    quant_config: QuantizationConfig | None, hf_config: Any
) -> QuantizationConfig | None:
    """``quant_config``, or None where the checkpoint left the tower as it was."""
    return None if any(map(_is_the_tower, _left_alone(hf_config))) else quant_config


def _left_alone(hf_config: Any) -> Iterator[str]:
    """The entries of the checkpoint's list."""
    for config in (hf_config, hf_config.get_text_config()):
        stored = getattr(config, "quantization_config", None) or {}
        for name in _LISTS:
            yield from stored.get(name) or ()


def _is_the_tower(entry: str) -> bool:
    if entry.startswith("re:"):
        pattern = re.compile(entry.removeprefix("re:"))
        return any(all(pattern.match(tower + layer) for layer in _LAYERS) for tower in _TOWERS)
    return "vision" in entry and any(f".{tower}.".endswith(f".{entry}.") for tower in _TOWERS)
