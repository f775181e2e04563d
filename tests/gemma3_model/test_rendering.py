"""What our renderers send to an engine is what vLLM's own way through our processor gives it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from vllm.engine.arg_utils import EngineArgs
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.processing import ProcessorInputs, TimingContext

from gemma3_model.processor import engine_input
from gemma3_model.rendering import ImageRendering, RenderedPrompt
from pipeline.contract.config import EngineConfig
from pipeline.contract.task import ImageRef, Request, Sampling
from pipeline.engine.model_files import model_folder
from pipeline.engine.renderer import GemmaRenderer
from tests.gemma3_model.test_parity import sample_image

MODEL = str(model_folder("demo"))
IMAGES = [sample_image(1).resize((900, 300)), sample_image(2), Image.new("L", (40, 700), 130)]


def vllms(ids: list[int], images: list[Image.Image], pan_and_scan: bool) -> Any:
    """A prompt that vLLM processes."""
    options = {"do_pan_and_scan": True} if pan_and_scan else None
    settings = EngineArgs(
        model=MODEL, mm_processor_kwargs=options, limit_mm_per_prompt={"image": 3}
    )
    processor = MULTIMODAL_REGISTRY.create_processor(settings.create_model_config())
    items = processor.info.parse_mm_data({"image": images})
    return processor.apply(ProcessorInputs(prompt=ids, mm_data_items=items), TimingContext())


@pytest.mark.parametrize("pan_and_scan", [False, True])
def test_ids_pixels_and_places_are_the_same(pan_and_scan: bool) -> None:
    renderer = GemmaRenderer(
        EngineConfig(model="demo", max_model_len=1024, max_images=3, pan_and_scan=pan_and_scan)
    )
    request = Request("Say it.\n\n", Sampling(8), images=(ImageRef(None),) * 3)
    ours = engine_input(renderer.render(request, IMAGES).prompt)
    theirs = vllms(list(renderer._prompts.encode("Say it.\n\n", None, 3)), IMAGES, pan_and_scan)
    assert ours["type"] == theirs["type"] == "multimodal"
    assert ours["prompt_token_ids"] == theirs["prompt_token_ids"]
    pairs = zip(ours["mm_placeholders"]["image"], theirs["mm_placeholders"]["image"], strict=True)
    for our, their in pairs:
        assert (our.offset, our.length) == (their.offset, their.length)
        masks = (our.is_embed, their.is_embed)
        assert masks == (None, None) if masks[1] is None else torch.equal(*masks)
    items = zip(ours["mm_kwargs"]["image"], theirs["mm_kwargs"]["image"], strict=True)
    for our, their in items:
        assert our.keys() == their.keys()
        assert all(torch.equal(our[name].data, their[name].data) for name in our)
        assert our["pixel_values"].data.dtype == torch.uint8


def test_a_fingerprint_tells_pixels_and_not_files_apart() -> None:
    renderer = GemmaRenderer(EngineConfig(model="demo", max_model_len=1024))
    rendering = renderer._images
    assert isinstance(rendering, ImageRendering)
    same, again, other = map(rendering.views, (IMAGES[0], IMAGES[0].copy(), IMAGES[1]))
    assert same.fingerprint == again.fingerprint != other.fingerprint


def test_text_alone_needs_no_pixels() -> None:
    assert engine_input(RenderedPrompt([2, 9, 4]))["prompt_token_ids"] == [2, 9, 4]
