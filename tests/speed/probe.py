"""What a measurement asks of an engine's worker; given to it as ``worker_extension_cls``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from vllm.config import CUDAGraphMode

from gemma3_model.inspection import LoadedModel
from tests.speed.tower_steps import try_steps

PROBE = "tests.speed.probe.Probe"


class Probe(LoadedModel):
    """Methods that vLLM adds to its worker class."""

    vllm_config: Any

    def graphs(self) -> dict[str, Any]:
        """vLLM's ``mode`` after it asked every attention backend, and how many ``full`` ones.

        Model Runner V2 (0.32's on GPUs) lists the graphs it captured, V1 those it may replay.
        """
        runner = self.model_runner
        manager = getattr(runner, "cudagraph_manager", None)
        if manager is not None:
            mode = manager.cudagraph_mode
            full = sum(graph.cg_mode is CUDAGraphMode.FULL for graph in manager.graphs)
        else:
            mode = runner.cudagraph_dispatcher.cudagraph_mode
            full = len(runner.cudagraph_dispatcher.cudagraph_keys[CUDAGraphMode.FULL])
        return {"mode": mode.name, "full": full}

    def tower_state(self) -> dict[str, Any]:
        """See :func:`state_of`."""
        return state_of(self.model_runner.get_model().vision_tower)

    def tower_seconds(self, batch: int, repetitions: int) -> float:
        """Seconds for one batch of images through the vision tower alone, warm."""
        tower, pixels = self._tower_and_pixels(batch)
        with torch.inference_mode():
            return _seconds(lambda: tower(pixels), pixels.device, repetitions)

    def tower_steps(self, batch: int, repetitions: int) -> list[dict[str, Any]]:
        """See :func:`tests.speed.tower_steps.try_steps`."""
        tower, pixels = self._tower_and_pixels(batch)

        def seconds(forward: Callable[[torch.Tensor], torch.Tensor]) -> float:
            return _seconds(lambda: forward(pixels), pixels.device, repetitions)

        with torch.inference_mode():
            return try_steps(tower, pixels, seconds)

    def _tower_and_pixels(self, batch: int) -> tuple[torch.nn.Module, torch.Tensor]:
        tower = self.model_runner.get_model().vision_tower
        weight = next(tower.parameters())
        size = self.vllm_config.model_config.hf_config.vision_config.image_size
        pixels = torch.rand(batch, 3, size, size, dtype=weight.dtype, device=weight.device) * 2 - 1
        return tower, pixels


def state_of(tower: Any) -> dict[str, Any]:
    """Which kernels compute a tower's ``attention``, and whether it really is ``compiled``.

    vLLM (0.32) compiles it at its first call, where ``compile_mm_encoder`` is set; it says nothing
    where it does not heed that.
    """
    backend = tower.encoder.layers[0].self_attn.attn.attn_backend
    compiled = bool(getattr(tower.encoder, "compiled", False))  # not there if never to be
    loaded = getattr(tower.encoder, "aot_compiled_fn", None) is not None  # from vLLM's cache
    return {"attention": backend.name, "compiled": compiled or loaded}


def _seconds(call: Callable[[], object], device: torch.device, repetitions: int) -> float:
    for _ in range(2):
        call()
    _finish(device)
    begin = time.perf_counter()
    for _ in range(repetitions):
        call()
    _finish(device)
    return (time.perf_counter() - begin) / repetitions


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
