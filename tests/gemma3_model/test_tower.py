"""The vision tower takes the images of a step together, and is compiled where that is asked.

So are the other ways to compute it that are measured on GPUs: they compute the same.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import engine, run
from tests.gemma3_model.test_parity import PROMPTS
from tests.speed import tower_steps
from tests.speed.probe import state_of


def test_images_of_several_requests_are_one_batch(tmp_path: Path) -> None:
    batches: list[int] = []

    def watch(model: nn.Module) -> None:
        model.vision_tower.register_forward_hook(lambda _, args, __: batches.append(len(args[0])))

    with engine(checkpoints.multimodal(tmp_path)) as llm:
        llm.apply_model(watch)
        run(llm, [PROMPTS["one"], PROMPTS["three"], PROMPTS["adjacent"]], prompt_logprobs=False)
    assert batches == [6]


def test_compiled_it_computes_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.gemma3_model.compiled_tower"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-4000:]


@contextlib.contextmanager
def without_a_residual(tower: nn.Module, _: Tensor) -> Iterator[tower_steps.Forward]:
    """A fault, to see that it is seen."""

    def forward(self: Any, hidden: Tensor) -> Tensor:
        return hidden + self.mlp(self.layer_norm2(self.self_attn(self.layer_norm1(hidden))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tower_steps.SiglipEncoderLayer, "forward", forward)
        yield tower


def test_the_steps_that_are_measured_compute_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tower_steps.STEPS, "wrong", without_a_residual)

    def compare(model: nn.Module) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        tower = model.vision_tower
        with torch.inference_mode():
            pixels = torch.rand(3, 3, 112, 112) * 2 - 1
            return tower_steps.try_steps(tower, pixels, lambda _: 1.0), state_of(tower)

    with engine(checkpoints.multimodal(tmp_path)) as llm:
        ((found, state),) = llm.apply_model(compare)
    differences = {step["name"]: step["difference"] for step in found}
    assert differences.pop("wrong") > 0.01
    assert differences == dict.fromkeys(differences, pytest.approx(0, abs=1e-5))
    assert {"as it is", "residuals in place", "attention by SDPA"} <= differences.keys()
    assert state == {"attention": "TORCH_SDPA", "compiled": False}
