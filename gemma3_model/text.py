"""Decides the decoder: its layers, how they are stacked, and the text-only model around them.

Shape letters: T tokens, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from vllm.compilation.decorators import support_torch_compile
from vllm.distributed import get_pp_group
from vllm.model_executor.layers.layernorm import GemmaRMSNorm
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    VocabParallelEmbedding,
)
from vllm.model_executor.models.interfaces import SupportsLoRA, SupportsPP
from vllm.model_executor.models.utils import (
    make_empty_intermediate_tensors_factory,
    make_layers,
    maybe_prefix,
)
from vllm.sequence import IntermediateTensors

from gemma3_model.attention import Gemma3Attention
from gemma3_model.layers import Gemma3MLP
from gemma3_model.weights import PACKED_MODULES, TEXT_WEIGHTS, load_weights

if TYPE_CHECKING:
    from transformers import Gemma3TextConfig
    from vllm.config import CacheConfig, VllmConfig
    from vllm.model_executor.layers.quantization import QuantizationConfig


class Gemma3DecoderLayer(nn.Module):
    """Attention and feed-forward, each between two norms; residuals join after the second."""

    def __init__(
        self,
        config: Gemma3TextConfig,
        cache_config: CacheConfig | None,
        quant_config: QuantizationConfig | None,
        prefix: str,
    ) -> None:
        super().__init__()
        self.self_attn = Gemma3Attention(config, cache_config, quant_config, f"{prefix}.self_attn")
        self.mlp = Gemma3MLP(config, quant_config, f"{prefix}.mlp")
        for norm in (
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ):
            setattr(self, norm, GemmaRMSNorm(config.hidden_size, eps=config.rms_norm_eps))

    def forward(
        self, positions_T: Tensor, hidden_TD: Tensor, residual_TD: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One layer; the sum with the residual is left to the next norm, which fuses it."""
        if residual_TD is None:
            residual_TD = hidden_TD
            hidden_TD = self.input_layernorm(hidden_TD)
        else:
            hidden_TD, residual_TD = self.input_layernorm(hidden_TD, residual_TD)
        hidden_TD = self.post_attention_layernorm(self.self_attn(positions_T, hidden_TD))
        hidden_TD, residual_TD = self.pre_feedforward_layernorm(hidden_TD, residual_TD)
        hidden_TD = self.post_feedforward_layernorm(self.mlp(hidden_TD))
        assert residual_TD is not None
        return hidden_TD, residual_TD


@support_torch_compile(
    dynamic_arg_dims={
        "input_ids": 0,
        "positions": -1,
        "intermediate_tensors": 0,
        "inputs_embeds": 0,
    }
)
class Gemma3Model(nn.Module):
    """Embeddings, layers and the last norm; this rank's share of them under pipeline parallel."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config: Gemma3TextConfig = vllm_config.model_config.hf_config
        quant_config = vllm_config.quant_config
        self.embed_tokens = VocabParallelEmbedding(
            config.vocab_size,
            config.hidden_size,
            quant_config=quant_config,
            prefix=f"{prefix}.embed_tokens",
        )
        self.start_layer, self.end_layer, self.layers = make_layers(
            config.num_hidden_layers,
            lambda prefix: Gemma3DecoderLayer(
                config, vllm_config.cache_config, quant_config, prefix
            ),
            prefix=f"{prefix}.layers",
        )
        self.norm = GemmaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        # The factor is rounded to the model's dtype, as in training (transformers PR 29402);
        # at this point torch's default dtype is the model's.
        self.register_buffer("embed_scale", torch.tensor(config.hidden_size**0.5), persistent=False)
        self.make_empty_intermediate_tensors = make_empty_intermediate_tensors_factory(
            ["hidden_states", "residual"], config.hidden_size
        )

    def embed_input_ids(self, input_ids: Tensor) -> Tensor:
        """[T] ids to [T, D] scaled embeddings. Soft tokens of images are never scaled."""
        embedded_TD: Tensor = self.embed_tokens(input_ids) * self.embed_scale
        return embedded_TD

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor | IntermediateTensors:
        """[T] ids, or [T, D] embeddings in their place, to [T, D] hidden states."""
        residual_TD = None
        if get_pp_group().is_first_rank:
            hidden_TD = self.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds
        else:
            assert intermediate_tensors is not None
            hidden_TD = intermediate_tensors["hidden_states"]
            residual_TD = intermediate_tensors["residual"]
        for layer in islice(self.layers, self.start_layer, self.end_layer):
            hidden_TD, residual_TD = layer(positions, hidden_TD, residual_TD)
        if not get_pp_group().is_last_rank:
            return IntermediateTensors({"hidden_states": hidden_TD, "residual": residual_TD})
        hidden_TD, _ = self.norm(hidden_TD, residual_TD)
        return hidden_TD


class Gemma3Decoder(nn.Module):
    """Decoder and head, as all models of the family have them."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config: Gemma3TextConfig = vllm_config.model_config.hf_config
        self.config = config
        self.quant_config = vllm_config.quant_config
        self.model = Gemma3Model(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "model"))
        self.lm_head = ParallelLMHead(
            config.vocab_size,
            config.hidden_size,
            quant_config=vllm_config.quant_config,
            prefix=maybe_prefix(prefix, "lm_head"),
        )
        if config.tie_word_embeddings:
            self.lm_head = self.lm_head.tie_weights(self.model.embed_tokens)
        self.logits_processor = LogitsProcessor(
            config.vocab_size, soft_cap=config.final_logit_softcapping
        )
        self.make_empty_intermediate_tensors = self.model.make_empty_intermediate_tensors

    def embed_input_ids(self, input_ids: Tensor) -> Tensor:
        """[T] ids to [T, D] scaled embeddings."""
        return self.model.embed_input_ids(input_ids)

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor | IntermediateTensors:
        """[T] ids, or [T, D] embeddings in their place, to [T, D] hidden states."""
        hidden: Tensor | IntermediateTensors = self.model(
            input_ids, positions, intermediate_tensors, inputs_embeds
        )
        return hidden

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        """[T, D] hidden states, of the tokens that are sampled from, to [T, V] logits."""
        logits: Tensor | None = self.logits_processor(self.lm_head, hidden_states)
        return logits


class Gemma3ForCausalLM(Gemma3Decoder, SupportsLoRA, SupportsPP):
    """The text-only models (270M, 1B, and MedGemma 27B's text variant)."""

    packed_modules_mapping: ClassVar = PACKED_MODULES
    hf_to_vllm_mapper: ClassVar = TEXT_WEIGHTS

    # Not in Gemma3Decoder: vLLM's loader would call it inside the multimodal models, once for
    # each run of the decoder's tensors, none of which is complete by itself.
    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load a checkpoint's tensors under any of the namings of :mod:`gemma3_model.weights`.

        Returns:
            The names of the parameters that were filled.

        Raises:
            ValueError: a tensor is unknown or missing.
        """
        return load_weights(self, weights, TEXT_WEIGHTS, self.quant_config)
