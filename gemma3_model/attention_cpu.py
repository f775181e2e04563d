"""Decides how the mask of :mod:`gemma3_model.attention` is applied on a CPU.

vLLM 0.32's CPU kernel knows causal attention, full attention and a window, one of them per
sequence, and no images. So a step's requests are cut into *segments* at the borders of their
images, and each segment is given to the kernel as a sequence of its own over the same cache
blocks: text is causal; an image is not, and as its segment ends with it, none of its tokens
attends to what comes after the image.

In a segment that is not causal the kernel's window limits both directions. An image no longer
than the window lies within it entirely, so the mask is right. Longer images (no released model
has them: 256 tokens against windows of 512 and 1024) take one more call for each distance to the
image's end, with the window widened by that distance.

This can go when vLLM's CPU backend applies ``mm_req_doc_ranges`` itself and returns True from
``supports_mm_prefix``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from vllm import _custom_ops as ops
from vllm.v1.attention.backend import CommonAttentionMetadata
from vllm.v1.attention.backends.cpu_attn import (
    CPUAttentionBackend,
    CPUAttentionBackendImpl,
    CPUAttentionMetadata,
    CPUAttentionMetadataBuilder,
)

if TYPE_CHECKING:
    from vllm.v1.attention.backend import AttentionLayer


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Consecutive query tokens of one request that share a mask; positions within the request."""

    request: int
    start: int
    end: int
    is_image: bool


def cut_segments(
    query_lens: Sequence[int],
    seq_lens: Sequence[int],
    images: Mapping[int, Sequence[tuple[int, int]]],
) -> list[Segment]:
    """Cut the queries of a step at the borders of the images they reach into.

    Args:
        query_lens: tokens that each request computes in this step.
        seq_lens: tokens of each request up to and with this step.
        images: request index -> first and last position of each image, inclusive.

    Returns:
        Segments in the order of the query tokens, covering each exactly once.
    """
    return [
        segment
        for request, (query_len, seq_len) in enumerate(zip(query_lens, seq_lens, strict=True))
        for segment in _cut_request(request, seq_len - query_len, seq_len, images.get(request, ()))
    ]


def _cut_request(
    request: int, start: int, end: int, images: Sequence[tuple[int, int]]
) -> Iterator[Segment]:
    for first, last in sorted(images):
        if last < start or first >= end:
            continue
        assert last < end, "the scheduler cut an image; see gemma3_model.scheduling"
        if start < first:
            yield Segment(request=request, start=start, end=first, is_image=False)
        yield Segment(request=request, start=max(start, first), end=last + 1, is_image=True)
        start = last + 1
    if start < end:
        yield Segment(request=request, start=start, end=end, is_image=False)


@dataclass(frozen=True, kw_only=True)
class WideImageQueries:
    """The queries of a step at the same distance from the end of an image wider than the window.

    Attributes:
        rows: [n] int64, their rows among the step's queries.
        window: the window that, counted from the image's last token, begins where the
            query's own does.
        seq_lens: [n] int32, where each one's image ends.
        query_start_loc: [n + 1] int32, 0..n: each is a sequence of one query.
        block_table: [n, blocks] int32.
        scheduler_metadata: how the kernel divides the work.
    """

    rows: Tensor
    window: int
    seq_lens: Tensor
    query_start_loc: Tensor
    block_table: Tensor
    scheduler_metadata: Tensor


@dataclass
class ImageAwareMetadata(CPUAttentionMetadata):
    """vLLM's metadata over segments in place of requests, and the queries it cannot serve."""

    wide: list[WideImageQueries] = field(default_factory=list)


def _segment_batch(
    common: CommonAttentionMetadata, segments: Sequence[Segment]
) -> CommonAttentionMetadata:
    """The step's batch with each segment as a sequence."""
    lengths = torch.tensor([segment.end - segment.start for segment in segments])
    starts = torch.zeros(len(segments) + 1, dtype=torch.int32)
    torch.cumsum(lengths, 0, out=starts[1:])
    ends = torch.tensor([segment.end for segment in segments], dtype=torch.int32)
    requests = torch.tensor([segment.request for segment in segments])
    is_causal = [int(not segment.is_image) for segment in segments]
    return replace(
        common,
        query_start_loc=starts,
        query_start_loc_cpu=starts,
        seq_lens=ends,
        num_reqs=len(segments),
        max_query_len=int(lengths.max()),
        max_seq_len=int(ends.max()),
        block_table_tensor=common.block_table_tensor[requests],
        causal=torch.tensor(is_causal, dtype=torch.int32),
    )


def _rows_by_distance(segments: Sequence[Segment], window: int) -> dict[int, list[tuple[int, int]]]:
    """Queries of images wider than the window: distance to the end -> (row, segment)."""
    by_distance: dict[int, list[tuple[int, int]]] = {}
    row = 0
    for index, segment in enumerate(segments):
        length = segment.end - segment.start
        if segment.is_image and length > window:
            for offset in range(length):
                distance = length - 1 - offset
                by_distance.setdefault(distance, []).append((row + offset, index))
        row += length
    return by_distance


class ImageAwareMetadataBuilder(CPUAttentionMetadataBuilder):
    """Builds a step's metadata for the layers of one cache group."""

    def build(
        self,
        common_prefix_len: int,
        common_attn_metadata: CommonAttentionMetadata,
        fast_build: bool = False,
    ) -> CPUAttentionMetadata:
        """vLLM's own metadata for a step without images, ours over segments for one with."""
        segments = self._segments(common_attn_metadata)
        if not any(segment.is_image for segment in segments):
            return super().build(common_prefix_len, common_attn_metadata, fast_build)
        batch = _segment_batch(common_attn_metadata, segments)
        plain = super().build(common_prefix_len, batch, fast_build)
        wide = list(self._wide_queries(batch, segments)) if self.window_size > 0 else []
        return ImageAwareMetadata(**vars(plain), wide=wide)

    @staticmethod
    def _segments(common: CommonAttentionMetadata) -> list[Segment]:
        images = common.mm_req_doc_ranges
        if not images or common.max_query_len == 1:
            return []
        starts = common.query_start_loc[: common.num_reqs + 1]
        query_lens = (starts[1:] - starts[:-1]).tolist()
        return cut_segments(query_lens, common.seq_lens[: common.num_reqs].tolist(), images)

    def _wide_queries(
        self, batch: CommonAttentionMetadata, segments: Sequence[Segment]
    ) -> Iterator[WideImageQueries]:
        for distance, places in _rows_by_distance(segments, self.window_size).items():
            rows, indices = (torch.tensor(part) for part in zip(*places, strict=True))
            window = self.window_size + distance
            seq_lens = batch.seq_lens[indices]
            query_start_loc = torch.arange(len(places) + 1, dtype=torch.int32)
            yield WideImageQueries(
                rows=rows,
                window=window,
                seq_lens=seq_lens,
                query_start_loc=query_start_loc,
                block_table=batch.block_table_tensor[indices],
                scheduler_metadata=ops.cpu_attn_get_scheduler_metadata(
                    num_reqs=len(places),
                    num_heads=self.num_heads,
                    num_kv_heads=self.num_kv_heads,
                    head_dim=self.head_dim,
                    seq_lens=seq_lens,
                    dtype=self.dtype,
                    query_start_loc=query_start_loc,
                    causal=True,
                    sliding_window_size=window,
                    isa=self.isa,
                    enable_kv_split=False,
                    kv_cache_dtype=self.kv_cache_dtype,
                ),
            )


class ImageAwareCPUImpl(CPUAttentionBackendImpl):
    """vLLM's CPU attention; the queries of images wider than the window are computed again."""

    def forward(
        self,
        layer: AttentionLayer,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        kv_cache: Tensor,
        attn_metadata: CPUAttentionMetadata | None,
        output: Tensor,
        output_scale: Tensor | None = None,
        output_block_scale: Tensor | None = None,
    ) -> Tensor:
        """[tokens, heads, head_dim] queries against the cache, into ``output`` of that shape."""
        super().forward(
            layer,
            query,
            key,
            value,
            kv_cache,
            attn_metadata,
            output,
            output_scale,
            output_block_scale,
        )
        if isinstance(attn_metadata, ImageAwareMetadata) and self.sliding_window > 0:
            for wide in attn_metadata.wide:
                self._attend_wide(layer, query, kv_cache, wide, output)
        return output

    def _attend_wide(
        self,
        layer: AttentionLayer,
        query: Tensor,
        kv_cache: Tensor,
        wide: WideImageQueries,
        output: Tensor,
    ) -> None:
        num_blocks, num_kv_heads, block_size, _ = kv_cache.size()
        keys_values = kv_cache.view(num_blocks, num_kv_heads, block_size * 2, -1)
        key_cache, value_cache = keys_values.chunk(2, dim=2)
        attended = torch.empty_like(output[wide.rows])
        ops.cpu_attention_with_kv_cache(
            query=query[wide.rows],
            key_cache=key_cache,
            value_cache=value_cache,
            output=attended,
            query_start_loc=wide.query_start_loc,
            seq_lens=wide.seq_lens,
            scale=self.scale,
            causal=True,
            alibi_slopes=self.alibi_slopes,
            sliding_window=wide.window,
            block_table=wide.block_table,
            softcap=self.logits_soft_cap,
            scheduler_metadata=wide.scheduler_metadata,
            s_aux=self.sinks,
            k_scale=layer._k_scale_float,
            v_scale=layer._v_scale_float,
            kv_cache_dtype=self.kv_cache_dtype,
        )
        output[wide.rows] = attended


class ImageAwareCPUBackend(CPUAttentionBackend):
    """vLLM's CPU backend, under its own name, with images attended to in both directions."""

    @classmethod
    def supports_mm_prefix(cls) -> bool:
        """Whether tokens of an image attend to each other in both directions: True."""
        return True

    @staticmethod
    def get_impl_cls() -> type[CPUAttentionBackendImpl]:
        """The class that computes."""
        return ImageAwareCPUImpl

    @staticmethod
    def get_builder_cls() -> type[CPUAttentionMetadataBuilder]:
        """The class that prepares a step."""
        return ImageAwareMetadataBuilder
