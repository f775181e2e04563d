"""Other ways to compute the vision tower, tried one after the other on a loaded engine's own tower.

So all of them are measured with one start of an engine, on the same weights and pixels, beside the
tower as it is; and how far the features move is measured with them. None is in the product before
it was seen to win on a GPU. What vLLM itself offers are arguments of an engine: ``STEPS`` of
:mod:`tests.gpu.bench`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from gemma3_model.vision import SiglipEncoderLayer

Forward = Callable[[Tensor], Tensor]
"""[N, 3, S, S] normalised pixels to [N, P, D] features."""
Step = Callable[[nn.Module, Tensor], AbstractContextManager[Forward]]
"""Changes a tower while it is entered; also gets the pixels that it will be given."""


@contextlib.contextmanager
def as_it_is(tower: nn.Module, _: Tensor) -> Iterator[Forward]:
    yield tower


@contextlib.contextmanager
def residuals_in_place(tower: nn.Module, _: Tensor) -> Iterator[Forward]:
    """No new tensor for what a layer adds to its input (vllm#18922: 6 % end to end)."""

    def forward(self: Any, hidden: Tensor) -> Tensor:
        hidden += self.self_attn(self.layer_norm1(hidden))
        hidden += self.mlp(self.layer_norm2(hidden))
        return hidden

    with patch.object(SiglipEncoderLayer, "forward", forward):
        yield tower


@contextlib.contextmanager
def attention_by_sdpa(
    tower: nn.Module, _: Tensor, *, backend: SDPBackend | None = None
) -> Iterator[Forward]:
    """Images as a batch of equal lengths, without the bookkeeping of varying ones.

    The same as ``mm_encoder_attn_backend=TORCH_SDPA``, which an engine is started with; with
    ``backend`` also which of torch's kernels computes it.
    """
    with ExitStack() as stack:
        for layer in tower.encoder.layers:
            attention = layer.self_attn.attn
            stack.enter_context(patch.object(attention, "_forward_method", attention._forward_sdpa))
        if backend is not None:
            stack.enter_context(sdpa_kernel(backend))
        yield tower


@contextlib.contextmanager
def as_a_cuda_graph(tower: nn.Module, pixels: Tensor) -> Iterator[Forward]:
    """What an engine's ``cudagraph_mm_encoder`` can save at most: no kernel waits for Python."""
    static = pixels.clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        features = tower(static)

    def replay(given: Tensor) -> Tensor:
        static.copy_(given)
        graph.replay()
        return features

    yield replay


@contextlib.contextmanager
def compiled_here(tower: nn.Module, _: Tensor) -> Iterator[Forward]:
    """What ``compile_mm_encoder`` can save at most: one graph, for this very shape."""
    with patch.object(tower.encoder, "forward", torch.compile(tower.encoder.forward)):
        yield tower
    torch._dynamo.reset()


STEPS: dict[str, Step] = {
    "as it is": as_it_is,
    "residuals in place": residuals_in_place,
    "attention by SDPA": attention_by_sdpa,
}
GPU_STEPS: dict[str, Step] = {
    "attention by SDPA, cuDNN": partial(attention_by_sdpa, backend=SDPBackend.CUDNN_ATTENTION),
    "attention by SDPA, flash": partial(attention_by_sdpa, backend=SDPBackend.FLASH_ATTENTION),
    "as one CUDA graph": as_a_cuda_graph,
    "compiled here": compiled_here,
}


def try_steps(
    tower: nn.Module, pixels: Tensor, seconds: Callable[[Forward], float]
) -> list[dict[str, Any]]:
    """Measure every step that this device has.

    Args:
        tower: A loaded ``SiglipVisionTower``.
        pixels: [N, 3, S, S] normalised.
        seconds: Measures a call with the pixels.

    Returns:
        For each its ``name``, the ``seconds``, and the ``difference`` of the features from those of
        the tower as it is, of their largest; or the ``fault`` of one that cannot run here.
    """
    steps = {**STEPS, **GPU_STEPS} if pixels.is_cuda else STEPS
    expected = tower(pixels).float()
    return [
        {"name": name, **_try(step, tower, pixels, expected, seconds)}
        for name, step in steps.items()
    ]


def _try(
    step: Step,
    tower: nn.Module,
    pixels: Tensor,
    expected: Tensor,
    seconds: Callable[[Forward], float],
) -> dict[str, Any]:
    try:
        with step(tower, pixels) as forward:
            moved = (forward(pixels).float() - expected).abs().max() / expected.abs().max()
            return {"seconds": seconds(forward), "difference": float(moved)}
    except Exception as error:  # a kernel that this device or this shape lacks
        return {"fault": f"{type(error).__name__}: {error}".splitlines()[0]}
