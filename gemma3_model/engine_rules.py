"""Decides which engine settings Gemma 3 needs, and sets them before anything loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.model_executor.models.config import VerifyAndUpdateConfig
from vllm.platforms import current_platform

if TYPE_CHECKING:
    from vllm.config import VllmConfig


class Gemma3EngineRules(VerifyAndUpdateConfig):
    """vLLM's hook for an architecture: called while the engine's configuration is built."""

    @staticmethod
    def verify_and_update_config(vllm_config: VllmConfig) -> None:
        """Keep the tokens of one picture in one step (see :mod:`gemma3_model.scheduling`).

        vLLM sets ``disable_chunked_mm_input`` by itself on GPUs but not on CPUs (0.32).
        """
        if not vllm_config.model_config.is_multimodal_model:
            return
        scheduler = vllm_config.scheduler_config
        scheduler.disable_chunked_mm_input = True
        if current_platform.is_cpu() and scheduler.scheduler_cls is None:
            scheduler.scheduler_cls = "gemma3_model.scheduling.WholePictureScheduler"
