"""Decides where a step may cut a prompt: never inside an image.

An image's tokens attend to each other in both directions, so they must be computed in one step.
vLLM 0.32's ``disable_chunked_mm_input`` keeps an image whole only where the step begins before
it: a step that begins at the image's first token (as the one after a cut does) or inside it
(as one after a prefix-cache hit does) may still cut it. This closes that gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vllm.v1.core.sched.scheduler import Scheduler

if TYPE_CHECKING:
    from vllm.v1.request import Request


def whole_images(images: Sequence[tuple[int, int]], num_computed: int, num_new: int) -> int:
    """How many of the next ``num_new`` prompt tokens to compute so that no image is cut.

    Args:
        images: first and last position of each image's soft tokens, both inclusive.
        num_computed: tokens already computed; the step begins at this position.
        num_new: tokens that the step could take.

    Returns:
        ``num_new``, or as many as come before the image that would be cut; 0 where the step
        begins inside that image.
    """
    end = num_computed + num_new
    for first, last in images:
        if first < end <= last:
            return max(0, first - num_computed)
    return num_new


class WholeImages(Scheduler):
    """:func:`whole_images` applied to every step, before vLLM plans the step's encoder inputs.

    vLLM may then take fewer tokens, where its encoder cache has no room for an image; it ends the
    step before that image.
    """

    def _try_schedule_encoder_inputs(
        self,
        request: Request,
        num_computed_tokens: int,
        num_new_tokens: int,
        encoder_compute_budget: int,
        shift_computed_tokens: int = 0,
    ) -> tuple[list[int], int, int, list[int], list[int]]:
        """The encoder inputs of a step, the tokens it takes, the budget left, and bookkeeping."""
        ahead = [
            feature.mm_position
            for feature in request.mm_features
            if feature.mm_position.offset + feature.mm_position.length > num_computed_tokens
        ]
        images = [span for place in ahead for span in place.extract_embeds_range()]
        num_new_tokens = whole_images(images, num_computed_tokens, num_new_tokens)
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
