"""The mask that FlashAttention 4 is given with our layers' arguments, as literal matrices.

It is a function of two positions, which a GPU's compiler takes; called with numbers it answers on
any machine. vLLM uses it where it is chosen by hand; elsewhere FlashAttention sees no images.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from vllm.v1.attention.backends import flash_attn
from vllm.v1.attention.backends.utils import fill_mm_prefix_query_ranges

from tests.gemma3_model.drawings import DRAWINGS, defined


@pytest.fixture(autouse=True)
def numbers_for_a_compiler_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that the mask is written with, for plain numbers."""
    cute = SimpleNamespace(jit=lambda function: function, TensorSSA=int)
    cutlass = SimpleNamespace(cute=cute, Int32=int, min=min, max=max)
    conversions = {"scalar_to_ssa": lambda number, _: int(number), "ssa_to_scalar": int}
    package = "vllm.vllm_flash_attn"
    for name, members in {
        "cutlass": vars(cutlass),
        "cutlass.cute": vars(cute),
        package: {},
        f"{package}.cute": {},
        f"{package}.cute.utils": conversions,
    }.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)


def seen(
    length: int, images: list[tuple[int, int]], window: int | None, *, computed: int = 0
) -> torch.Tensor:
    """[length - computed, length] bool, for the queries of one step, as the layer asks for it."""
    queries = length - computed
    starts = torch.tensor([0, queries], dtype=torch.int32)
    ranges = np.full((queries, 2), -1, dtype=np.int32)
    fill_mm_prefix_query_ranges(ranges, {0: images}, starts, torch.tensor([length]))
    mask: Any = flash_attn._make_mm_prefix_mask_mod.__wrapped__(
        sliding_window=window or 0, sliding_window_left=window
    )
    lengths = SimpleNamespace(seqlen_q=queries, seqlen_k=length)
    return torch.tensor(
        [
            [mask([0], 0, query, key, lengths, [ranges, starts]) for key in range(length)]
            for query in range(queries)
        ]
    ).bool()


@pytest.mark.parametrize("name", list(DRAWINGS))
def test_what_each_token_sees(name: str) -> None:
    drawn = DRAWINGS[name]
    assert torch.equal(seen(len(drawn.mask), drawn.images, drawn.window), drawn.mask)


@pytest.mark.parametrize("window", [None, 5, 12, 30])
@pytest.mark.parametrize("computed", [0, 3, 22, 39])
def test_steps_of_a_long_prompt(window: int | None, computed: int) -> None:
    images = [(3, 14), (15, 21), (28, 38)]
    expected = defined(40, images, window)[computed:]
    assert torch.equal(seen(40, images, window, computed=computed), expected)
