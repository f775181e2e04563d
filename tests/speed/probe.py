"""What a measurement asks of an engine's worker; given to it as ``worker_extension_cls``."""

from __future__ import annotations

import time
from typing import Any

import torch
from vllm.config import CUDAGraphMode

from gemma3_model.inspection import LoadedModel

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

    def tower_seconds(self, batch: int, repetitions: int) -> float:
        """Seconds for one batch of images through the vision tower alone, warm."""
        tower = self.model_runner.get_model().vision_tower
        weight = next(tower.parameters())
        size = self.vllm_config.model_config.hf_config.vision_config.image_size
        pixels = torch.rand(batch, 3, size, size, dtype=weight.dtype, device=weight.device) * 2 - 1
        with torch.inference_mode():
            for _ in range(2):
                tower(pixels)
            _finish(weight.device)
            begin = time.perf_counter()
            for _ in range(repetitions):
                tower(pixels)
            _finish(weight.device)
        return (time.perf_counter() - begin) / repetitions


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
