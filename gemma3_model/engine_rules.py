"""Decides which engine settings Gemma 3 needs, and sets them before anything loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from vllm.model_executor.models.config import VerifyAndUpdateConfig

from gemma3_model.backend_choice import refuse_chosen_backends

if TYPE_CHECKING:
    from vllm.config import ModelConfig, VllmConfig


class Gemma3EngineRules(VerifyAndUpdateConfig):
    """vLLM's hook for an architecture: called while the engine's configuration is built."""

    @staticmethod
    def verify_and_update_model_config(model_config: ModelConfig) -> None:
        """Treat ShieldGemma 2 as the Gemma 3 that it is.

        vLLM 0.32 decides by ``model_type`` which models attend to images in both directions,
        which overflow in float16 and whose length is scaled already; ``shieldgemma2`` is in none
        of its lists.

        Raises:
            ValueError: the engine was asked for float16.
        """
        hf_config = model_config.hf_config
        if hf_config.model_type != "shieldgemma2":
            return
        if model_config.dtype == torch.float16:
            raise ValueError("ShieldGemma 2 overflows in float16; use bfloat16 or float32.")
        longest = hf_config.get_text_config().max_position_embeddings
        model_config.max_model_len = min(model_config.max_model_len, longest)
        hf_config.is_mm_prefix_lm = True
        model_config.model_arch_config = model_config.get_model_arch_config()

    @staticmethod
    def verify_and_update_config(vllm_config: VllmConfig) -> None:
        """Choose our scheduler, and make sure that images keep their mask and stay in one step.

        Where no sequence is longer than the window, local layers need as much memory as global
        ones, and all are one group of the KV cache in the place of seven (Gemma 3 4B).

        See :mod:`gemma3_model.backend_choice` and :mod:`gemma3_model.scheduling`. vLLM sets
        ``disable_chunked_mm_input`` by itself on GPUs but not on CPUs (0.32).

        Raises:
            ValueError: a setting would split images or give them a causal mask.
        """
        refuse_chosen_backends(vllm_config)
        scheduler = vllm_config.scheduler_config
        if scheduler.scheduler_cls is None:
            scheduler.scheduler_cls = "gemma3_model.scheduling.batch_scheduler"
        window = vllm_config.model_config.hf_config.get_text_config().sliding_window
        if scheduler.disable_hybrid_kv_cache_manager is None:
            # True here, or left to vLLM.
            fits = vllm_config.model_config.max_model_len <= window
            scheduler.disable_hybrid_kv_cache_manager = fits or None
        if not vllm_config.model_config.is_multimodal_model:
            return
        scheduler.disable_chunked_mm_input = True
        soft_tokens = vllm_config.model_config.hf_config.mm_tokens_per_image
        if 0 < scheduler.long_prefill_token_threshold < soft_tokens:
            raise ValueError(
                f"long_prefill_token_threshold {scheduler.long_prefill_token_threshold} is less "
                f"than the {soft_tokens} tokens of an image, which must be computed in one "
                "step; set it to 0 or to more."
            )
