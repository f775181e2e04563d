"""Decides which tokens a token of the decoder attends to, and with which kernels.

The mask, with W the window of a local layer and "block" the soft tokens of one image or crop
(transformers, ``create_masks_for_vision_model``, as of 5.19):

    global layers:   kv <= q  or  same block
    local layers:   (kv <= q  or  same block)  and  kv > q - W

    Drawn for the tokens  a  I I I  b  (one image of three), W = 3:

           a I I I b              a I I I b
        a  x . . . .           a  x . . . .
        I  x x x x .           I  x x x x .
        I  x x x x .           I  x x x x .
        I  x x x x .           I  . x x x .
        b  x x x x x           b  . . x x x
          global                 local

The window limits the past only: ahead, an image's tokens attend to the end of their block.

Shape letters: T tokens, D hidden, H query heads, K key heads, E head_dim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.layernorm import GemmaRMSNorm
from vllm.model_executor.layers.linear import QKVParallelLinear, RowParallelLinear
from vllm.model_executor.models.utils import extract_layer_index
from vllm.platforms import current_platform

from gemma3_model.backend_choice import require_image_mask
from gemma3_model.config import layer_window
from gemma3_model.rope import rotary_embedding

if TYPE_CHECKING:
    from transformers import Gemma3TextConfig
    from vllm.config import CacheConfig
    from vllm.model_executor.layers.quantization import QuantizationConfig
    from vllm.v1.attention.backend import AttentionBackend


def attention_backend() -> type[AttentionBackend] | None:
    """The attention backend that applies the mask: ours on a CPU, elsewhere None (vLLM's choice).

    On a CPU vLLM 0.32 silently gives images a causal mask. Elsewhere it selects among the
    backends that declare support for ``mm_prefix`` masks, and raises where there is none.
    """
    if not current_platform.is_cpu():
        return None
    from gemma3_model.attention_cpu import ImageAwareCPUBackend

    return ImageAwareCPUBackend


class Gemma3Attention(nn.Module):
    """Grouped-query attention with RMS-normed queries and keys."""

    def __init__(
        self,
        config: Gemma3TextConfig,
        cache_config: CacheConfig | None,
        quant_config: QuantizationConfig | None,
        prefix: str,
    ) -> None:
        super().__init__()
        tp_size = get_tensor_model_parallel_world_size()
        self.head_dim = config.head_dim
        self.num_heads = config.num_attention_heads // tp_size
        self.num_kv_heads = max(1, config.num_key_value_heads // tp_size)

        self.qkv_proj = QKVParallelLinear(
            config.hidden_size,
            config.head_dim,
            config.num_attention_heads,
            config.num_key_value_heads,
            bias=config.attention_bias,
            quant_config=quant_config,
            prefix=f"{prefix}.qkv_proj",
        )
        self.o_proj = RowParallelLinear(
            config.num_attention_heads * config.head_dim,
            config.hidden_size,
            bias=config.attention_bias,
            quant_config=quant_config,
            prefix=f"{prefix}.o_proj",
        )
        self.q_norm = GemmaRMSNorm(config.head_dim, eps=config.rms_norm_eps)
        self.k_norm = GemmaRMSNorm(config.head_dim, eps=config.rms_norm_eps)
        self.rotary_emb = rotary_embedding(config, extract_layer_index(prefix))
        self.attn = self._cached_attention(config, cache_config, quant_config, prefix)

    def _cached_attention(
        self,
        config: Gemma3TextConfig,
        cache_config: CacheConfig | None,
        quant_config: QuantizationConfig | None,
        prefix: str,
    ) -> Attention:
        """vLLM's attention over its key-value cache, with this layer's part of the mask."""
        attention = Attention(
            self.num_heads,
            self.head_dim,
            # Not head_dim: the 27B model scales by hidden_size / num_heads = 168.
            config.query_pre_attn_scalar**-0.5,
            num_kv_heads=self.num_kv_heads,
            cache_config=cache_config,
            quant_config=quant_config,
            per_layer_sliding_window=layer_window(config, extract_layer_index(prefix)),
            mm_prefix_clamp_sliding_window=True,
            attn_backend=attention_backend(),
            prefix=f"{prefix}.attn",
        )
        if attention.use_mm_prefix:
            require_image_mask(attention.attn_backend)
        return attention

    def forward(self, positions_T: Tensor, hidden_TD: Tensor) -> Tensor:
        """[tokens] positions and [tokens, hidden] to [tokens, hidden]."""
        qkv, _ = self.qkv_proj(hidden_TD)
        q_size, kv_size = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        q, k, v = qkv.split([q_size, kv_size, kv_size], dim=-1)
        q = self.q_norm(q.unflatten(-1, (self.num_heads, self.head_dim))).flatten(-2)
        k = self.k_norm(k.unflatten(-1, (self.num_kv_heads, self.head_dim))).flatten(-2)
        q, k = self.rotary_emb(positions_T, q, k)
        out_TD: Tensor
        out_TD, _ = self.o_proj(self.attn(q, k, v))
        return out_TD
