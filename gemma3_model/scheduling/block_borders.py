"""Decides which steps need the KV cache's bookkeeping: those at a border of two blocks.

vLLM 0.32 asks each group of layers in every step, for every sequence, whether blocks must be added,
hashed for the prefix cache or freed behind the window. Gemma 3 4B has seven groups. While an answer
grows by a token a step, all three happen where a block begins or is complete, and nothing happens
between. So only the steps at such borders ask; every step has the same blocks as vLLM's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.v1.core.kv_cache_manager import KVCacheBlocks, KVCacheManager
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.core.single_type_kv_cache_manager import FullAttentionManager, SlidingWindowManager
from vllm.v1.request import RequestStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm.v1.request import Request

KINDS = (FullAttentionManager, SlidingWindowManager)
"""vLLM's managers of which it is known that they do nothing between borders."""


class NoBlocks(KVCacheBlocks):
    """What a step needs that is not at a border; vLLM would look through its groups."""

    def get_block_ids(  # type: ignore[override]
        self, allow_none: bool = False, *, group_ids: Sequence[int] | None = None
    ) -> tuple[list[int], ...] | None:
        """None, or an empty list for each group."""
        return None if allow_none else super().get_block_ids(group_ids=group_ids)


class BorderManager(KVCacheManager):
    """vLLM's manager, asked at borders only.

    All its groups have blocks of one size, of which windows are multiples.
    """

    _no_blocks: NoBlocks
    _positions: dict[str, int]
    """Tokens of each request that were computed, and known, when it was last scheduled."""

    def begin(self) -> None:
        """Take over from vLLM's manager before there is any request."""
        self._no_blocks = NoBlocks(self.empty_kv_cache_blocks.blocks)
        self._positions = {}

    def allocate_slots(
        self, request: Request, num_new_tokens: int, *args: Any, **settings: Any
    ) -> KVCacheBlocks | None:
        """Slots for a request's next tokens; see vLLM's."""
        if request.status is not RequestStatus.RUNNING:
            return super().allocate_slots(request, num_new_tokens, *args, **settings)
        size, computed = self.block_pool.hash_block_size, request.num_computed_tokens
        position = computed - request.num_in_flight_tokens
        last = self._positions.get(request.request_id)
        self._positions[request.request_id] = position
        if (
            num_new_tokens == 1
            and last == position - 1
            and computed % size  # the token's block is there
            # No block whose tokens are known is complete, and none leaves the window: these are
            # the same steps, as windows are multiples of the size.
            and min(computed + 1, request.num_tokens) % size
        ):
            return self._no_blocks
        return super().allocate_slots(request, num_new_tokens, *args, **settings)

    def cache_blocks(self, request: Request, num_computed_tokens: int) -> None:
        """Hash complete blocks; see vLLM's.

        Steps that are scheduled ahead ask for it after each token as well, when `allocate_slots`
        has done it already for the step that follows.
        """
        if request.status is not RequestStatus.RUNNING:
            super().cache_blocks(request, num_computed_tokens)

    def free(self, request: Request) -> None:
        """Let go of a request that ended, or begins again later."""
        self._positions.pop(request.request_id, None)
        super().free(request)


class BlockBorders(Scheduler):
    """Asks the KV cache at borders only, where that is the same as asking always."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        manager = self.kv_cache_manager
        if self._grows_token_by_token() and _has_borders(manager):
            # The scheduler makes its manager itself and takes no other.
            manager.__class__ = BorderManager
            manager.begin()

    def _grows_token_by_token(self) -> bool:
        """Not with drafted tokens, several steps in flight, or blocks from another engine."""
        return not (
            self.num_spec_tokens or self.num_lookahead_tokens or self.use_pp or self.connector
        )


def _has_borders(manager: KVCacheManager) -> bool:
    kinds = manager.coordinator.single_type_managers
    size = manager.block_pool.hash_block_size
    return type(manager) is KVCacheManager and all(
        type(kind) in KINDS
        and kind.block_size == size
        and getattr(kind, "sliding_window", size) % size == 0
        for kind in kinds
    )
