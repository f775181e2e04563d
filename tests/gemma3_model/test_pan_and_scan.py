"""Pan and scan: transformers' crops, its words, and its numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from gemma3_model.pan_and_scan import PanAndScan
from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import Prompt, Reference, difference, engine, run
from tests.gemma3_model.test_parity import TOLERANCE, TURN, sample_image

SIZES = [(896, 896), (1000, 500), (500, 1000), (4000, 600), (610, 500), (255, 400), (1537, 512)]
OPTIONS = {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 64}


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("max_num_crops", [2, 4])
def test_crops_are_transformers_crops(width: int, height: int, max_num_crops: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    theirs = Gemma3ImageProcessorPil().pan_and_scan(pixels, 256, max_num_crops, 1.2)
    boxes = PanAndScan(enabled=True, max_num_crops=max_num_crops).crop_boxes(width, height)
    ours = [pixels[:, upper:lower, left:right] for left, upper, right, lower in boxes]
    assert len(ours) == len(theirs)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_off_by_default() -> None:
    assert PanAndScan().crop_boxes(4000, 600) == []


def wide(seed: int, width: int, height: int) -> Image.Image:
    return sample_image(seed).resize((width, height))


PROMPTS = [
    # Three crops; a word before the image, so that tokens join across the inserted words.
    Prompt(
        text=TURN.format("see <start_of_image> what"), images=(wide(1, 300, 100),), options=OPTIONS
    ),
    # Two crops of a tall one, none of a square one, and newlines around.
    Prompt(
        text=TURN.format("<start_of_image>\n\n<start_of_image>\nBoth?"),
        images=(wide(2, 90, 170), wide(3, 120, 120)),
        options=OPTIONS,
    ),
    Prompt(text=TURN.format("<start_of_image>Off."), images=(wide(4, 300, 100),)),
]


def test_numbers_are_transformers_numbers(tmp_path: Path) -> None:
    folder = checkpoints.multimodal(tmp_path)
    reference = Reference(folder)
    with engine(folder) as llm:
        outputs = run(llm, PROMPTS)
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        assert difference(reference, prompt, output).worst < TOLERANCE
