"""Decides how positions enter attention: two bases, one for local and one for global layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.model_executor.layers.rotary_embedding import get_rope

from gemma3_model.config import layer_type

if TYPE_CHECKING:
    from torch import nn
    from transformers import Gemma3TextConfig


def rope_parameters(config: Gemma3TextConfig, layer: int) -> dict[str, Any]:
    """The rotary parameters of one layer, as transformers 5 nests them by kind of layer.

    Released models: base 10,000 on local layers, 1,000,000 on global ones, and there, from 4B
    up, positions divided by 8 (``rope_type: linear``). transformers turns the older flat form
    (``rope_theta``, ``rope_local_base_freq``, ``rope_scaling``) into this one as it loads.
    """
    return dict(config.rope_parameters[layer_type(config, layer)])


def rotary_embedding(config: Gemma3TextConfig, layer: int) -> nn.Module:
    """The module that rotates q and k of one layer, halves paired as in GPT-NeoX."""
    rotary: nn.Module = get_rope(
        config.head_dim,
        max_position=config.max_position_embeddings,
        rope_parameters=rope_parameters(config, layer),
        is_neox_style=True,
    )
    return rotary
