"""Decides which tokens of a step are passed to attention as an image's, under Model Runner V2.

V2, vLLM's default on GPUs, passes an image as text in two cases, which silently gives it a causal
mask (0.32, ``DefaultModelState.prepare_attn``): where it is longer than the sliding window, and in
every stage of a pipeline but the first, as only that stage keeps the images' positions. A model may
bring its own state class; ours keeps the positions of all images, in every stage.

This can go when ``compute_mm_prefix_ranges`` asks the model's ``mm_prefix_clamp_sliding_window``
(vLLM's pull request 50539) and later stages call it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm.v1.worker.gpu.model_states.default import DefaultModelState

from gemma3_model.processor import MODALITY

if TYPE_CHECKING:
    from vllm.v1.attention.backend import CommonAttentionMetadata
    from vllm.v1.core.sched.output import NewRequestData
    from vllm.v1.worker.gpu.input_batch import InputBatch
    from vllm.v1.worker.utils import AttentionGroup

Ranges = list[tuple[int, int]]
"""First and last position of each image of a prompt, both inclusive."""


@dataclass(frozen=True, kw_only=True)
class _GroupWithRanges:
    """A group of layers whose metadata is built with the image ranges of a step's requests."""

    group: AttentionGroup
    ranges: Mapping[int, Ranges]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.group, name)

    def build_metadata(self, common: CommonAttentionMetadata, *args: Any, **settings: Any) -> Any:
        common.mm_req_doc_ranges = dict(self.ranges)
        return self.group.build_metadata(common, *args, **settings)


class ImageRanges(DefaultModelState):
    """vLLM's state of a decoder, plus the positions of each request's images."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._ranges: dict[str, Ranges] = {}

    def add_request(self, req_index: int, new_req_data: NewRequestData) -> None:
        """Keep the ranges of a request that is new or resumed."""
        super().add_request(req_index, new_req_data)
        self._ranges[new_req_data.req_id] = [
            span
            for feature in new_req_data.mm_features
            if feature.modality == MODALITY
            for span in feature.mm_position.extract_embeds_range()
        ]

    def remove_request(self, req_id: str) -> None:
        """Forget a request that is finished or preempted."""
        super().remove_request(req_id)
        self._ranges.pop(req_id, None)

    def prepare_attn(
        self,
        input_batch: InputBatch,
        cudagraph_mode: Any,
        block_tables: Any,
        slot_mappings: Any,
        attn_groups: Sequence[Sequence[AttentionGroup]],
        *args: Any,
        **settings: Any,
    ) -> dict[str, Any]:
        """What each layer's attention needs for a step."""
        if self.model_config.is_mm_prefix_lm:
            attn_groups = self._with_ranges(attn_groups, input_batch.req_ids)
        metadata: dict[str, Any] = super().prepare_attn(
            input_batch, cudagraph_mode, block_tables, slot_mappings, attn_groups, *args, **settings
        )
        return metadata

    def _with_ranges(
        self, attn_groups: Sequence[Sequence[AttentionGroup]], requests: Sequence[str]
    ) -> Sequence[Sequence[Any]]:
        ranges = {row: self._ranges.get(name, []) for row, name in enumerate(requests)}
        return [
            [_GroupWithRanges(group=group, ranges=ranges) for group in groups]
            for groups in attn_groups
        ]
