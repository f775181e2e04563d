"""Decides how patch features become the decoder's soft tokens.

Shape letters: N images, P patches, V vision hidden, K soft tokens, D decoder hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.layernorm import GemmaRMSNorm

from gemma3_model.config import patches_per_side, soft_tokens_per_side

if TYPE_CHECKING:
    from transformers import Gemma3Config


class Gemma3Projector(nn.Module):
    """Mean over squares of patches, a norm, and one product (technical report, section 2.1)."""

    def __init__(self, config: Gemma3Config) -> None:
        super().__init__()
        vision = config.vision_config
        self.side = patches_per_side(vision)
        self.square = self.side // soft_tokens_per_side(config)
        self.mm_soft_emb_norm = GemmaRMSNorm(vision.hidden_size, eps=vision.layer_norm_eps)
        self.mm_input_projection_weight = nn.Parameter(
            torch.zeros(vision.hidden_size, config.text_config.hidden_size)
        )

    def forward(self, features_NPV: Tensor) -> Tensor:
        """[N, P, V] to [N, K, D]; soft tokens row by row."""
        grid_NVpp = features_NPV.transpose(1, 2).unflatten(-1, (self.side, self.side))
        pooled_NKV = nn.functional.avg_pool2d(grid_NVpp, self.square).flatten(2).transpose(1, 2)
        soft_NKD: Tensor = (
            self.mm_soft_emb_norm(pooled_NKV.contiguous()) @ self.mm_input_projection_weight
        )
        return soft_NKD.type_as(features_NPV)
