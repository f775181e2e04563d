"""Decides what the prefix cache keeps of a request: its prompt.

vLLM 0.32 keeps answers too: whenever one completes a block, the block is hashed and offered to
later prompts, by each group of layers. Gemma 3 4B has seven, and that is a tenth to a fifth of
a step's work in Python. In bulk work no prompt goes on where an answer ended. One that does still
finds the earlier prompt; what follows it is computed again. So is the answer so far of a request
that is preempted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.v1.core.sched.scheduler import Scheduler

if TYPE_CHECKING:
    from vllm.v1.core.kv_cache_coordinator import KVCacheCoordinator
    from vllm.v1.request import Request


class PromptCache(Scheduler):
    """Hashes prompts only, and offers only what is hashed."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        # Another engine that takes its blocks from this one is told of answers as well.
        self._keeps_answers = self.connector is not None
        if not self._keeps_answers:
            _offer_what_is_hashed(self.kv_cache_manager.coordinator)

    def add_request(self, request: Request) -> None:
        """See vLLM's. The prompt was hashed when the request was made."""
        if not (self._keeps_answers or request.resumable):  # one that is may get a longer prompt
            request._hasher_of_prompt = request._block_hasher
            request._block_hasher = None
        super().add_request(request)

    def _preempt_request(self, request: Request, *args: Any, **settings: Any) -> None:
        """See vLLM's. The request begins again, its answer so far being part of its prompt."""
        super()._preempt_request(request, *args, **settings)
        if request._block_hasher is None:
            request._block_hasher = getattr(request, "_hasher_of_prompt", None)
            request.update_block_hashes()


def _offer_what_is_hashed(coordinator: KVCacheCoordinator) -> None:
    offer = coordinator.cache_blocks
    size: int = coordinator.block_pool.hash_block_size

    def offer_hashed(request: Request, num_computed_tokens: int) -> None:
        hashed = len(request.block_hashes) * size
        if request.num_computed_tokens < hashed:  # else an earlier step has offered all of it
            offer(request, min(num_computed_tokens, hashed))

    coordinator.cache_blocks = offer_hashed
