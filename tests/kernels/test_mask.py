"""The mask that vLLM's Triton attention keeps with our layers' arguments, as literal matrices."""

from __future__ import annotations

import pytest
import torch
from vllm.v1.attention.ops.triton_unified_attention import unified_attention

from tests.gemma3_model.drawings import DRAWINGS, defined

HEADS, KEY_HEADS = 4, 2
BLOCK = 16
SEGMENTS = 16


def seen(
    length: int, images: list[tuple[int, int]], window: int | None, *, computed: int = 0
) -> torch.Tensor:
    """[length - computed, length] bool: which keys have a weight, for the queries of one step.

    Every key's value is a unit vector of its own, so that what comes out are the weights.
    """
    generator = torch.Generator().manual_seed(0)
    blocks = -(-length // BLOCK)
    width = max(32, 1 << (length - 1).bit_length())
    queries = length - computed
    values = torch.zeros((blocks + 1) * BLOCK, KEY_HEADS, width)
    # The first block is none of the request's; its table names the others, the last one first.
    table = torch.arange(blocks, 0, -1, dtype=torch.int32)[None]
    for position in range(length):
        values[table[0, position // BLOCK] * BLOCK + position % BLOCK, :, position] = 1
    weights = torch.zeros(queries, HEADS, width)
    unified_attention(
        q=torch.randn(queries, HEADS, width, generator=generator),
        k=torch.randn(blocks + 1, BLOCK, KEY_HEADS, width, generator=generator),
        v=values.unflatten(0, (blocks + 1, BLOCK)),
        out=weights,
        cu_seqlens_q=torch.tensor([0, queries], dtype=torch.int32),
        max_seqlen_q=queries,
        seqused_k=torch.tensor([length], dtype=torch.int32),
        max_seqlen_k=length,
        softmax_scale=0.1,
        causal=True,
        window_size=(-1, -1) if window is None else (window - 1, 0),
        block_table=table,
        softcap=0,
        q_descale=None,
        k_descale=torch.ones(1, KEY_HEADS),
        v_descale=torch.ones(1, KEY_HEADS),
        seq_threshold_3D=0,
        num_par_softmax_segments=SEGMENTS,
        softmax_segm_output=torch.empty(1, HEADS, SEGMENTS, width),
        softmax_segm_max=torch.empty(1, HEADS, SEGMENTS),
        softmax_segm_expsum=torch.empty(1, HEADS, SEGMENTS),
        mm_prefix_range=torch.tensor([images], dtype=torch.int32) if images else None,
        mm_prefix_clamp_sliding_window=True,
    )
    masks = weights[..., :length] > 0
    assert bool((masks == masks[:, :1]).all()), "heads see different keys"
    return masks[:, 0]


@pytest.mark.parametrize("name", list(DRAWINGS))
def test_what_each_token_sees(name: str) -> None:
    drawn = DRAWINGS[name]
    assert torch.equal(seen(len(drawn.mask), drawn.images, drawn.window), drawn.mask)


IMAGES = [(3, 40), (41, 70), (88, 119)]
"""Of 38, 30 and 32 tokens; the first two touch, and all of them straddle blocks."""


@pytest.mark.parametrize("window", [None, 8, 38, 50])
@pytest.mark.parametrize("computed", [0, 3, 71, 80, 127])
def test_steps_of_a_long_prompt(window: int | None, computed: int) -> None:
    """Queries from any position on that is in no image; the last step decodes."""
    expected = defined(128, IMAGES, window)[computed:]
    assert torch.equal(seen(128, IMAGES, window, computed=computed), expected)
