"""Decides when an answer is looked at for repetitions: as seldom as misses none.

With ``repetition_detection`` vLLM 0.32 compares the end of an answer with itself after every token,
once for each length of a pattern, which costs more than the rest of a token's bookkeeping. A token
that differs from the one a pattern's length before it rules that pattern out for as long as the
repetitions asked for would take. So each look says when the next one can find anything, and an
answer ends at the same token as with vLLM's own check.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import RequestStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm.sampling_params import RepetitionDetectionParams
    from vllm.v1.request import Request


class LoopCheck:
    """Looks for repetitions at the end of one answer.

    Args:
        params: The shortest and the longest pattern in tokens, and how often one must come.
    """

    def __init__(self, params: RepetitionDetectionParams) -> None:
        self._lengths = range(max(params.min_pattern_size, 1), params.max_pattern_size + 1)
        self._count = int(params.min_count)
        self.next_look = self._lengths.start * self._count
        """Tokens that the answer must have before a look can find anything."""

    @staticmethod
    def can_find(params: RepetitionDetectionParams) -> bool:
        """Whether vLLM looks at all with such parameters."""
        lengths = max(params.min_pattern_size, 1), params.max_pattern_size
        return bool(lengths[0] <= lengths[1] and params.min_count > 1)

    def finds(self, answer: Sequence[int]) -> bool:
        """Whether the answer ends in a repetition; else set :attr:`next_look`.

        Args:
            answer: Ids of all its tokens.
        """
        tail = answer[-self._lengths[-1] * self._count :]
        earliest = [self._earliest(tail, length) for length in self._lengths]
        if 0 in earliest:
            return True
        self.next_look = len(answer) + min(earliest)
        return False

    def _earliest(self, tail: Sequence[int], length: int) -> int:
        """Tokens that must come before a pattern of this length can have come often enough."""
        size, needed = len(tail), length * (self._count - 1)
        for place in range(size - 1, max(size - needed, length) - 1, -1):
            if tail[place] != tail[place - length]:
                return place + 1 + needed - size
        return max(0, length + needed - size)


class Loops(Scheduler):
    """Ends answers that repeat themselves, in the place of vLLM's check."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._loop_checks: dict[str, LoopCheck] = {}

    def add_request(self, request: Request) -> None:
        """See vLLM's interface."""
        params = request.sampling_params
        detection = params and params.repetition_detection
        # Tokens that were drafted come several at once, and vLLM looks after each of them.
        if detection and not self.num_spec_tokens and not request.resumable:
            request.sampling_params = copy.copy(params)
            request.sampling_params.repetition_detection = None
            if LoopCheck.can_find(detection):
                self._loop_checks[request.request_id] = LoopCheck(detection)
        super().add_request(request)

    def _update_request_with_output(
        self, request: Request, new_token_ids: list[int], is_stale: bool = False
    ) -> tuple[list[int], bool]:
        """The tokens that were added, and whether the request ends; vLLM's last check is ours."""
        added, stopped = super()._update_request_with_output(request, new_token_ids, is_stale)
        check = self._loop_checks.get(request.request_id)
        if check is None or stopped or request.num_output_tokens < check.next_look:
            return added, stopped
        if request.num_output_tokens < request.sampling_params.min_tokens:
            return added, stopped
        if not check.finds(request.output_token_ids):
            return added, False
        request.status = RequestStatus.FINISHED_REPETITION
        request.stop_reason = "repetition_detected"
        return added, True

    def _free_request(
        self, request: Request, delay_free_blocks: bool = False
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Where vLLM lets go of a request, however it ended."""
        self._loop_checks.pop(request.request_id, None)
        freed: tuple[dict[str, Any] | None, dict[str, Any] | None]
        freed = super()._free_request(request, delay_free_blocks)
        return freed
