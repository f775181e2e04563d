"""The vision tower compiled and not, in a process of its own: the tests' turns compiling off.

Exits with a message where ``compile_mm_encoder`` does not compile, or changes a number. The graph
is traced and run as it is, without Inductor, which takes a C++ compiler and minutes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ["VLLM_CPU_CI_ENV"] = "1"  # vLLM's way to ask for that
os.environ.pop("TORCHDYNAMO_DISABLE", None)

import torch
from vllm.config import set_current_vllm_config
from vllm.engine.arg_utils import EngineArgs
from vllm.forward_context import set_forward_context
from vllm.plugins import load_general_plugins

from gemma3_model.vision import SiglipVisionTower
from tests.gemma3_model import checkpoints
from tests.gemma3_model.test_family import single_process
from tests.speed.probe import state_of


def features(model: Path, *, is_compiled: bool) -> list[torch.Tensor]:
    """Of batches of two, three and one image, in that order."""
    config = EngineArgs(
        model=str(model),
        dtype="float32",
        max_model_len=512,
        compilation_config={"compile_mm_encoder": is_compiled},
    ).create_engine_config()
    vision = config.model_config.hf_config.vision_config
    with (
        tempfile.TemporaryDirectory() as folder,
        set_current_vllm_config(config),
        single_process(Path(folder)),
        set_forward_context(None, config),
        torch.inference_mode(),
    ):
        torch.manual_seed(0)
        tower = SiglipVisionTower(vision, None, "vision_tower")
        for parameter in tower.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        for module in tower.modules():
            if getattr(module, "quant_method", None) is not None:
                module.quant_method.process_weights_after_loading(module)
        side = vision.image_size
        found = [tower(torch.rand(images, 3, side, side)) for images in (2, 3, 1)]
        if state_of(tower)["compiled"] is not is_compiled:
            sys.exit(f"compile_mm_encoder={is_compiled} was not heeded")
    return found


if __name__ == "__main__":
    load_general_plugins()
    plain, compiled = (features(checkpoints.DEMO, is_compiled=each) for each in (False, True))
    for expected, seen in zip(plain, compiled, strict=True):
        torch.testing.assert_close(seen, expected)
