"""Decides where a step may cut a prompt: never inside a picture.

A picture's tokens look at each other in both directions, so they must be computed in one step.
vLLM 0.32's ``disable_chunked_mm_input`` keeps a picture whole only where the step begins before
it: a step that begins at the picture's first token (as the one after a cut does) or inside it
(as one after a prefix-cache hit does) may still cut it. This scheduler closes that gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vllm.v1.core.sched.scheduler import Scheduler

if TYPE_CHECKING:
    from vllm.v1.request import Request


def whole_pictures(pictures: Sequence[tuple[int, int]], num_computed: int, num_new: int) -> int:
    """How many of the next ``num_new`` prompt tokens to compute so that no picture is cut.

    Args:
        pictures: first and last position of each picture's soft tokens, both inclusive.
        num_computed: tokens already computed; the step begins at this position.
        num_new: tokens that the step could take.

    Returns:
        ``num_new``, or as many as come before the picture that would be cut; 0 where the step
        begins inside that picture.
    """
    end = num_computed + num_new
    for first, last in pictures:
        if first < end <= last:
            return max(0, first - num_computed)
    return num_new


class WholePictureScheduler(Scheduler):
    """vLLM's scheduler with :func:`whole_pictures` applied to every step."""

    def _try_schedule_encoder_inputs(
        self,
        request: Request,
        num_computed_tokens: int,
        num_new_tokens: int,
        encoder_compute_budget: int,
        shift_computed_tokens: int = 0,
    ) -> tuple[list[int], int, int, list[int], list[int]]:
        """The encoder inputs of a step, the tokens it takes, the budget left, and bookkeeping."""
        pictures = [
            span
            for feature in request.mm_features
            for span in feature.mm_position.extract_embeds_range()
        ]
        num_new_tokens = whole_pictures(pictures, num_computed_tokens, num_new_tokens)
        if num_new_tokens == 0:
            return [], 0, encoder_compute_budget, [], []
        scheduled: tuple[list[int], int, int, list[int], list[int]]
        scheduled = super()._try_schedule_encoder_inputs(
            request,
            num_computed_tokens,
            num_new_tokens,
            encoder_compute_budget,
            shift_computed_tokens,
        )
        return scheduled
