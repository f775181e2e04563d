"""The vision tower takes the images of a step together, and is compiled where that is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from torch import nn

from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import engine, run
from tests.gemma3_model.test_parity import PROMPTS


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
