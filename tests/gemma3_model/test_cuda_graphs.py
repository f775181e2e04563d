"""Our layers leave vLLM's CUDA backends free to capture whole decode steps.

What a backend answers is vLLM's code and runs without a GPU; that graphs are really captured is
for ``tests/gpu``.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from vllm.config import CompilationConfig, CompilationMode, CUDAGraphMode, VllmConfig
from vllm.v1.attention.backend import AttentionBackend, AttentionCGSupport
from vllm.v1.attention.backends.triton_attn import TritonAttentionBackend
from vllm.v1.attention.backends.triton_flash_attn import TritonFlashAttentionBackend

from tests.gemma3_model.test_family import engine_config, ours


@pytest.fixture(scope="module")
def vllm_config(tmp_path_factory: pytest.TempPathFactory) -> VllmConfig:
    """Of the 4B model, with its layers registered."""
    config = engine_config(tmp_path_factory.mktemp("4b"), "4b")
    ours(config)
    return config


def support(vllm_config: VllmConfig, backend: type[AttentionBackend]) -> AttentionCGSupport:
    """The least that a backend's builder promises over all our layers."""
    layers = vllm_config.compilation_config.static_forward_context.values()
    builder = backend.get_builder_cls()
    return min(
        (
            builder.get_cudagraph_support(vllm_config, layer.get_kv_cache_spec(vllm_config))
            for layer in layers
        ),
        key=lambda promised: promised.value,
    )


def graph_mode(promised: AttentionCGSupport) -> CUDAGraphMode:
    """What vLLM makes of its default on GPUs under such a promise."""
    compilation = CompilationConfig(
        mode=CompilationMode.VLLM_COMPILE, cudagraph_mode=CUDAGraphMode.FULL_AND_PIECEWISE
    )
    compilation.set_splitting_ops_for_v1(all2all_backend="")
    return compilation.resolve_cudagraph_mode_and_sizes(promised, "backend")


@pytest.mark.parametrize(
    ("mode", "size", "is_refused"),
    [
        (CUDAGraphMode.FULL, "4b", True),
        (CUDAGraphMode.FULL_AND_PIECEWISE, "4b", False),
        (CUDAGraphMode.FULL_DECODE_ONLY, "4b", False),
        (CUDAGraphMode.FULL, "1b", False),
    ],
)
def test_steps_with_images_are_not_captured_whole(
    tmp_path: Path, mode: CUDAGraphMode, size: str, is_refused: bool
) -> None:
    """Triton's backend would be, and replay the mask of a step without any."""
    config = engine_config(tmp_path, size)
    config.compilation_config.cudagraph_mode = mode
    refusal = pytest.raises(ValueError, match=r"FULL records prompts without .* FULL_AND_PIECEWISE")
    with refusal if is_refused else nullcontext():
        ours(config)


# On Hopper vLLM picks the first for 4B and 12B, whose heads are 256 wide, the second elsewhere.
@pytest.mark.parametrize("backend", [TritonFlashAttentionBackend, TritonAttentionBackend])
def test_decode_steps_are_captured_whole(
    vllm_config: VllmConfig, backend: type[AttentionBackend]
) -> None:
    promised = support(vllm_config, backend)
    assert promised is not AttentionCGSupport.NEVER
    assert graph_mode(promised).decode_mode() is CUDAGraphMode.FULL


def test_without_the_clamp_they_are_not(
    vllm_config: VllmConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One local layer whose images may look behind its window is enough."""
    layers = vllm_config.compilation_config.static_forward_context.values()
    local = next(layer for layer in layers if layer.sliding_window is not None)
    monkeypatch.setattr(local, "mm_prefix_clamp_sliding_window", False)
    promised = support(vllm_config, TritonFlashAttentionBackend)
    assert promised is AttentionCGSupport.NEVER
    assert graph_mode(promised).decode_mode() is not CUDAGraphMode.FULL
