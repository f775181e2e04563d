"""Decides the vision tower: SigLIP without its pooling head, from pixels to patch features.

Shape letters: N images, S pixels a side, P patches, D hidden, F feed-forward.
Source: SigLIP (arXiv 2303.15343), as ``SiglipVisionModel`` of transformers computes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from vllm.compilation.decorators import (
    should_torch_compile_mm_encoder,
    support_torch_compile,
)
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.model_executor.layers.activation import get_act_fn
from vllm.model_executor.layers.attention import MMEncoderAttention
from vllm.model_executor.layers.conv import Conv2dLayer
from vllm.model_executor.layers.linear import (
    ColumnParallelLinear,
    QKVParallelLinear,
    RowParallelLinear,
)

from gemma3_model.config import patches_per_side

if TYPE_CHECKING:
    from transformers import SiglipVisionConfig
    from vllm.model_executor.layers.quantization import QuantizationConfig


class PixelNormalisation(nn.Module):
    """uint8 pixels to the values the tower was trained on, computed in float32.

    ``(pixel * rescale_factor - mean) / std`` per channel. Done here, on the device, so that a
    quarter of the bytes travel to it.
    """

    def __init__(self, *, rescale_factor: float, mean: list[float], std: list[float]) -> None:
        super().__init__()
        # Not torch's default dtype, which is the model's while it is built.
        mean_3, std_3 = (torch.tensor(values, dtype=torch.float32) for values in (mean, std))
        scale = (rescale_factor / std_3).view(1, 3, 1, 1)
        offset = (-mean_3 / std_3).view(1, 3, 1, 1)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, pixels_N3SS: Tensor, dtype: torch.dtype) -> Tensor:
        """[N, 3, S, S] uint8 to the same shape in ``dtype``."""
        return (pixels_N3SS.float() * self.scale + self.offset).to(dtype)


class SiglipEmbeddings(nn.Module):
    """Patches through one convolution, plus a learned embedding of their place.

    Patches do not overlap, so the convolution is a product; vLLM's layer computes it as one on a
    CPU, and through cuDNN on CUDA.
    """

    def __init__(self, config: SiglipVisionConfig) -> None:
        super().__init__()
        self.patch_embedding = Conv2dLayer(
            config.num_channels,
            config.hidden_size,
            kernel_size=config.patch_size,
            stride=config.patch_size,
        )
        self.position_embedding = nn.Embedding(patches_per_side(config) ** 2, config.hidden_size)

    def forward(self, pixels_N3SS: Tensor) -> Tensor:
        """[N, 3, S, S] to [N, P, D]; patches row by row."""
        patches_NPD = self.patch_embedding(pixels_N3SS).flatten(2).transpose(1, 2)
        embedded_NPD: Tensor = patches_NPD + self.position_embedding.weight
        return embedded_NPD


class SiglipAttention(nn.Module):
    """Full attention among the patches of one image; q, k and v are one product."""

    def __init__(
        self, config: SiglipVisionConfig, quant_config: QuantizationConfig | None, prefix: str
    ) -> None:
        super().__init__()
        head_dim = config.hidden_size // config.num_attention_heads
        self.qkv_proj = QKVParallelLinear(
            config.hidden_size,
            head_dim,
            config.num_attention_heads,
            quant_config=quant_config,
            prefix=f"{prefix}.qkv_proj",
        )
        self.out_proj = RowParallelLinear(
            config.hidden_size,
            config.hidden_size,
            quant_config=quant_config,
            prefix=f"{prefix}.out_proj",
        )
        self.attn = MMEncoderAttention(
            config.num_attention_heads // get_tensor_model_parallel_world_size(),
            head_dim,
            head_dim**-0.5,
            prefix=f"{prefix}.attn",
        )

    def forward(self, hidden_NPD: Tensor) -> Tensor:
        """[N, P, D] to [N, P, D]."""
        qkv, _ = self.qkv_proj(hidden_NPD)
        q, k, v = qkv.chunk(3, dim=-1)
        out_NPD: Tensor
        out_NPD, _ = self.out_proj(self.attn(q, k, v))
        return out_NPD


class SiglipMLP(nn.Module):
    """Two products with a GELU between."""

    def __init__(
        self, config: SiglipVisionConfig, quant_config: QuantizationConfig | None, prefix: str
    ) -> None:
        super().__init__()
        self.fc1 = ColumnParallelLinear(
            config.hidden_size,
            config.intermediate_size,
            quant_config=quant_config,
            prefix=f"{prefix}.fc1",
        )
        self.activation = get_act_fn(config.hidden_act)
        self.fc2 = RowParallelLinear(
            config.intermediate_size,
            config.hidden_size,
            quant_config=quant_config,
            prefix=f"{prefix}.fc2",
        )

    def forward(self, hidden_NPD: Tensor) -> Tensor:
        """[N, P, D] to [N, P, D]."""
        hidden_NPF, _ = self.fc1(hidden_NPD)
        out_NPD: Tensor
        out_NPD, _ = self.fc2(self.activation(hidden_NPF))
        return out_NPD


class SiglipEncoderLayer(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a residual."""

    def __init__(
        self, config: SiglipVisionConfig, quant_config: QuantizationConfig | None, prefix: str
    ) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = SiglipAttention(config, quant_config, f"{prefix}.self_attn")
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = SiglipMLP(config, quant_config, f"{prefix}.mlp")

    def forward(self, hidden_NPD: Tensor) -> Tensor:
        """[N, P, D] to [N, P, D]."""
        hidden_NPD = hidden_NPD + self.self_attn(self.layer_norm1(hidden_NPD))
        out_NPD: Tensor = hidden_NPD + self.mlp(self.layer_norm2(hidden_NPD))
        return out_NPD


@support_torch_compile(
    dynamic_arg_dims={"hidden_NPD": 0},
    enable_if=should_torch_compile_mm_encoder,
    is_encoder=True,
)
class SiglipEncoder(nn.Module):
    """The layers, under the name that checkpoints give them.

    Compiled where the engine's ``compile_mm_encoder`` asks for it (off in vLLM by default).
    """

    def __init__(
        self, config: SiglipVisionConfig, quant_config: QuantizationConfig | None, prefix: str
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SiglipEncoderLayer(config, quant_config, f"{prefix}.layers.{layer}")
            for layer in range(config.num_hidden_layers)
        )

    def forward(self, hidden_NPD: Tensor) -> Tensor:
        """[N, P, D] to [N, P, D]."""
        for layer in self.layers:
            hidden_NPD = layer(hidden_NPD)
        return hidden_NPD


class SiglipVisionTower(nn.Module):
    """Normalised pixels to one feature vector per patch."""

    def __init__(
        self, config: SiglipVisionConfig, quant_config: QuantizationConfig | None, prefix: str
    ) -> None:
        super().__init__()
        self.embeddings = SiglipEmbeddings(config)
        self.encoder = SiglipEncoder(
            config=config, quant_config=quant_config, prefix=f"{prefix}.encoder"
        )
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels_N3SS: Tensor) -> Tensor:
        """[N, 3, S, S] to [N, P, D]."""
        features_NPD: Tensor = self.post_layernorm(self.encoder(self.embeddings(pixels_N3SS)))
        return features_NPD
