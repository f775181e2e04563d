"""A backend that would give pictures a causal mask is refused, where pictures may come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vllm.config import VllmConfig
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.engine.arg_utils import EngineArgs
from vllm.plugins import load_general_plugins
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
from vllm.v1.attention.backends.flash_attn import FlashAttentionBackend
from vllm.v1.attention.backends.flex_attention import FlexAttentionBackend
from vllm.v1.attention.backends.triton_attn import TritonAttentionBackend

from gemma3_model import attention, backend_choice
from gemma3_model.attention_cpu import PictureAwareCPUBackend
from gemma3_model.backend_choice import require_picture_mask
from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import engine


@pytest.fixture(scope="module")
def with_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    load_general_plugins()
    return checkpoints.multimodal(tmp_path_factory.mktemp("with-pictures"))


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
def test_a_choice_that_a_cpu_would_ignore_is_refused(with_pictures: Path, backend: str) -> None:
    with pytest.raises(ValueError, match=f"{backend} does not run on a CPU; leave the attention"):
        configure(with_pictures, attention_backend=backend)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "settings",
    [
        {"attention_backend": "FLASH_ATTN"},
        {"attention_config": {"backend_per_kind": {"sliding_window": "FLASH_ATTN"}}},
    ],
)
def test_a_choice_without_picture_masks_is_refused(
    with_pictures: Path, settings: dict[str, Any]
) -> None:
    """vLLM's FlashAttention keeps them in its version 4 only, which this machine has not."""
    with pytest.raises(
        ValueError, match=r"FLASH_ATTN hides from each token .* leave the attention"
    ):
        configure(with_pictures, **settings)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("backend", ["TRITON_ATTN", "FLEX_ATTENTION", "TRITON_FLASH_ATTN"])
def test_a_choice_with_picture_masks_is_taken(with_pictures: Path, backend: str) -> None:
    config = configure(with_pictures, attention_backend=backend)
    assert config.attention_config.backend.name == backend


@pytest.mark.parametrize("platform", ["cpu", "elsewhere"])
def test_without_pictures_any_choice_is_taken(
    with_pictures: Path, text_only: Path, platform: str, request: pytest.FixtureRequest
) -> None:
    if platform == "elsewhere":
        request.getfixturevalue("elsewhere")
    for folder, settings in ((text_only, {}), (with_pictures, {"language_model_only": True})):
        config = configure(folder, attention_backend="FLASH_ATTN", **settings)
        assert config.attention_config.backend.name == "FLASH_ATTN"


def test_what_backends_say_of_themselves() -> None:
    for keeps in (PictureAwareCPUBackend, TritonAttentionBackend, FlexAttentionBackend):
        require_picture_mask(keeps)
    for hides in (CPUAttentionBackend, FlashAttentionBackend):
        with pytest.raises(ValueError, match="hides from each token of a picture"):
            require_picture_mask(hides)


def test_a_layer_that_ended_up_without_picture_masks_does_not_start(
    with_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "attention_backend", lambda: CPUAttentionBackend)
    with (
        pytest.raises(ValueError, match="CPU_ATTN hides from each token of a picture"),
        engine(with_pictures),
    ):
        pass
    cleanup_dist_env_and_memory()
