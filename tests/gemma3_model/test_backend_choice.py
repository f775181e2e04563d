"""A backend that would give images a causal mask is refused, where images may come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from vllm.config import VllmConfig
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.engine.arg_utils import EngineArgs
from vllm.plugins import load_general_plugins
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
from vllm.v1.attention.backends.flash_attn import FlashAttentionBackend
from vllm.v1.attention.backends.flex_attention import (
    FlexAttentionBackend,
    FlexAttentionMetadata,
)
from vllm.v1.attention.backends.triton_attn import TritonAttentionBackend

from gemma3_model import attention, backend_choice
from gemma3_model.attention_cpu import ImageAwareCPUBackend
from gemma3_model.backend_choice import require_image_mask
from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import engine


@pytest.fixture(scope="module")
def with_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    load_general_plugins()
    return checkpoints.multimodal(tmp_path_factory.mktemp("with-images"))


@pytest.fixture(scope="module")
def text_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    load_general_plugins()
    return checkpoints.text_only(tmp_path_factory.mktemp("text-only"))


class NotACpu:
    """What the module asks of the platform."""

    @staticmethod
    def is_cpu() -> bool:
        return False


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that has a choice of backends."""
    monkeypatch.setattr(backend_choice, "current_platform", NotACpu())


def configure(model: Path, **settings: Any) -> VllmConfig:
    return EngineArgs(model=str(model), dtype="float32", **settings).create_engine_config()


@pytest.mark.parametrize("backend", ["FLASH_ATTN", "FLEX_ATTENTION", "FLASHINFER"])
def test_a_choice_that_a_cpu_would_ignore_is_refused(with_images: Path, backend: str) -> None:
    with pytest.raises(ValueError, match=f"{backend} does not run on a CPU; leave the attention"):
        configure(with_images, attention_backend=backend)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "settings",
    [
        {"attention_backend": "FLASH_ATTN"},
        {"attention_config": {"backend_per_kind": {"sliding_window": "FLASH_ATTN"}}},
    ],
)
def test_a_choice_without_image_masks_is_refused(
    with_images: Path, settings: dict[str, Any]
) -> None:
    """vLLM's FlashAttention keeps them in its version 4 only, which this machine has not."""
    with pytest.raises(
        ValueError, match=r"FLASH_ATTN hides from each token .* leave the attention"
    ):
        configure(with_images, **settings)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("backend", ["TRITON_ATTN", "TRITON_FLASH_ATTN"])
def test_a_choice_with_image_masks_is_taken(with_images: Path, backend: str) -> None:
    config = configure(with_images, attention_backend=backend)
    assert config.attention_config.backend.name == backend


@pytest.mark.parametrize("platform", ["cpu", "elsewhere"])
def test_without_images_any_choice_is_taken(
    with_images: Path, text_only: Path, platform: str, request: pytest.FixtureRequest
) -> None:
    if platform == "elsewhere":
        request.getfixturevalue("elsewhere")
    for folder, settings in ((text_only, {}), (with_images, {"language_model_only": True})):
        config = configure(folder, attention_backend="FLASH_ATTN", **settings)
        assert config.attention_config.backend.name == "FLASH_ATTN"


def test_what_backends_say_of_themselves() -> None:
    for keeps in (ImageAwareCPUBackend, TritonAttentionBackend):
        require_image_mask(keeps)
    for hides in (CPUAttentionBackend, FlashAttentionBackend, FlexAttentionBackend):
        with pytest.raises(ValueError, match="hides from each token of an image"):
            require_image_mask(hides)


def test_flex_attention_cuts_images() -> None:
    """Why it is refused though it says otherwise. Fails when vLLM has fixed it.

    An image of three blocks of 16 tokens: none of the blocks ahead is among those computed.
    """
    tokens, blocks = 48, 3
    metadata = FlexAttentionMetadata(
        causal=True,
        num_actual_tokens=tokens,
        max_query_len=tokens,
        query_start_loc=torch.tensor([0, tokens], dtype=torch.int32),
        query_start_loc_cpu=torch.tensor([0, tokens], dtype=torch.int32),
        max_seq_len=tokens,
        seq_lens=torch.tensor([tokens], dtype=torch.int32),
        block_table=torch.tensor([[1, 2, 3]], dtype=torch.int32),
        slot_mapping=torch.arange(tokens),
        total_cache_tokens=(blocks + 1) * 16,
        block_size=16,
        max_possible_sequence_length=tokens,
        num_reqs=1,
        physical_to_logical=torch.tensor([[-1, 0, 1, 2]]),
        decode_offset=torch.tensor([0], dtype=torch.int32),
        num_blocks_per_seq=torch.tensor([blocks]),
        persistent_kv_indices=torch.full((blocks, 16 * blocks), -1, dtype=torch.int32),
        persistent_kv_num_blocks=torch.zeros(blocks, dtype=torch.int32),
        persistent_doc_ids=torch.zeros(tokens, dtype=torch.int32),
        mm_prefix_range={0: [(0, tokens - 1)]},
    )
    assert FlexAttentionBackend.supports_mm_prefix()
    zero = torch.tensor(0)
    needed = metadata.mask_mod(zero, zero, torch.arange(tokens)[:, None], torch.arange(16, 64))
    assert bool(needed.all())
    computed = metadata._build_block_mask_direct().to_dense()[0, 0, :, 1:4].bool()
    assert computed.tolist() == [[True, False, False], [True, True, False], [True, True, True]]


def test_a_layer_that_ended_up_without_image_masks_does_not_start(
    with_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "attention_backend", lambda: CPUAttentionBackend)
    with (
        pytest.raises(ValueError, match="CPU_ATTN hides from each token of an image"),
        engine(with_images),
    ):
        pass
    cleanup_dist_env_and_memory()
