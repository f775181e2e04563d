"""What only a GPU can show: rounding, vLLM's own model beside ours, CUDA graphs, speed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.gemma3_model import checkpoints
from tests.gemma3_model.sizes import config
from tests.gpu import dummy, rounding, speed

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None,
    reason="vLLM's own Gemma 3 with images needs torchvision",
)
WIDE_HEADS = {"head_dim": 256, "query_pre_attn_scalar": 256, "num_key_value_heads": 2}
"""As 4B and 12B have them; 27B's are 128 wide. vLLM picks its kernels by that."""


STEPS = [
    {},
    {"attention_backend": "TRITON_ATTN"},
    *(
        {"compilation_config": {step: True}}
        for step in ("compile_mm_encoder", "cudagraph_mm_encoder")
    ),
]


@pytest.mark.parametrize("settings", STEPS, ids=str)
def test_every_way_to_run_it(tmp_path: Path, settings: dict[str, Any]) -> None:
    checkpoint = checkpoints.multimodal(tmp_path, **WIDE_HEADS)
    ours, transformers = rounding.measure(checkpoint, device="cuda", **settings)
    print(f"\n{settings}: ours {ours}, transformers in bfloat16 {transformers}")
    assert ours.is_rounding(transformers)


def test_heads_as_narrow_as_27b_s(tmp_path: Path) -> None:
    checkpoint = checkpoints.multimodal(tmp_path, **{**WIDE_HEADS, "head_dim": 128})
    ours, transformers = rounding.measure(checkpoint, device="cuda")
    print(f"\nhead_dim 128: ours {ours}, transformers in bfloat16 {transformers}")
    assert ours.is_rounding(transformers)


def test_a_window_smaller_than_an_image(tmp_path: Path) -> None:
    """No released model is concerned: 256 tokens against windows of 512 and 1024."""
    checkpoint = checkpoints.multimodal(tmp_path, **WIDE_HEADS, sliding_window=5)
    ours, transformers = rounding.measure(checkpoint, device="cuda")
    print(f"\nwindow 5: ours {ours}, transformers in bfloat16 {transformers}")
    assert ours.is_rounding(transformers)


@needs_torchvision
def test_vllm_s_own_model_on_the_same_weights(tmp_path: Path) -> None:
    checkpoint = checkpoints.multimodal(tmp_path, **WIDE_HEADS)
    own, transformers = rounding.measure(checkpoint, ours=False, device="cuda")
    ours, _ = rounding.measure(checkpoint, device="cuda")
    print(f"\nours {ours}, vLLM's own {own}, transformers in bfloat16 {transformers}")
    assert ours.is_rounding(own)


@pytest.fixture(scope="module")
def four_billion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dummy.write(tmp_path_factory.mktemp("4b"), config("4b"))


@pytest.fixture(scope="module")
def ours(four_billion: Path) -> speed.Rates:
    found = speed.rates(four_billion, speed.Size())
    print(f"\n{speed.HEAD}\n{speed.line(found)}")
    return found


def test_decode_steps_are_captured_whole(ours: speed.Rates) -> None:
    assert ours.graphs["mode"] in ("FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE")
    assert ours.graphs["full"] > 0


def test_speed_on_an_h200(ours: speed.Rates) -> None:
    import torch

    if "H200" not in torch.cuda.get_device_name():
        pytest.skip("the figures promised are of an H200")
    assert ours.captions >= 48
    assert ours.one_token >= 65
    assert ours.tower >= 95


@needs_torchvision
def test_translations_beside_vllm_s_own(four_billion: Path, ours: speed.Rates) -> None:
    own = speed.rates(four_billion, speed.Size(), ours=False, name="vLLM's own")
    print("\n".join(["", speed.HEAD, speed.line(own), speed.line(ours)]))
    assert ours.translations >= 2.1 * own.translations
