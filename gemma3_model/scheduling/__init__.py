"""Decides which scheduler runs our model: vLLM's own, with what bulk work changes in a step.

``whole_images``: where a step may cut a prompt.
``final_outputs``: which tokens leave the engine core, and when.
``loops``: when an answer is looked at for repetitions.
``block_borders``: which steps need the KV cache's bookkeeping.
``prompt_cache``: what the prefix cache keeps of a request.

Each is a class of its own over vLLM's scheduler, and none changes an answer. Importing this package
imports vLLM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from gemma3_model.scheduling.block_borders import BlockBorders
from gemma3_model.scheduling.final_outputs import FinalOutputs
from gemma3_model.scheduling.loops import Loops
from gemma3_model.scheduling.prompt_cache import PromptCache
from gemma3_model.scheduling.whole_images import WholeImages

if TYPE_CHECKING:
    from vllm.config import VllmConfig


PARTS = (WholeImages, FinalOutputs, Loops, BlockBorders, PromptCache)
"""What is put over vLLM's scheduler."""


class BatchScheduler(*PARTS):  # type: ignore[misc]
    """vLLM's scheduler that knows every token before it plans the next step."""


class BatchAsyncScheduler(*PARTS, AsyncScheduler):  # type: ignore[misc]
    """vLLM's scheduler that plans a step while the last one is computed; its default on GPUs."""


def batch_scheduler(vllm_config: VllmConfig, **settings: Any) -> Scheduler:
    """Build the scheduler that vLLM would have chosen, as one of ours.

    vLLM 0.32 decides on ``async_scheduling`` after the hooks of
    :mod:`gemma3_model.engine_rules` and before it calls ``scheduler_cls``. So ``scheduler_cls``
    names this function instead of a class.
    """
    runs_ahead = vllm_config.scheduler_config.async_scheduling
    scheduler = BatchAsyncScheduler if runs_ahead else BatchScheduler
    return scheduler(vllm_config=vllm_config, **settings)
