"""Decides the feed-forward block of the decoder. Norms and parallel products are vLLM's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from vllm.model_executor.layers.activation import get_act_and_mul_fn
from vllm.model_executor.layers.linear import MergedColumnParallelLinear, RowParallelLinear

if TYPE_CHECKING:
    from transformers import Gemma3TextConfig
    from vllm.model_executor.layers.quantization import QuantizationConfig


class Gemma3MLP(nn.Module):
    """``down(gelu_tanh(gate(x)) * up(x))``; gate and up are one product."""

    def __init__(
        self, config: Gemma3TextConfig, quant_config: QuantizationConfig | None, prefix: str
    ) -> None:
        super().__init__()
        self.gate_up_proj = MergedColumnParallelLinear(
            config.hidden_size,
            [config.intermediate_size] * 2,
            bias=False,
            quant_config=quant_config,
            prefix=f"{prefix}.gate_up_proj",
        )
        self.down_proj = RowParallelLinear(
            config.intermediate_size,
            config.hidden_size,
            bias=False,
            quant_config=quant_config,
            prefix=f"{prefix}.down_proj",
        )
        self.activation = get_act_and_mul_fn(config.hidden_activation)

    def forward(self, hidden_TD: Tensor) -> Tensor:
        """[tokens, hidden] to [tokens, hidden]."""
        gate_up_TF, _ = self.gate_up_proj(hidden_TD)
        out_TD: Tensor
        out_TD, _ = self.down_proj(self.activation(gate_up_TF))
        return out_TD
