"""The real renderer, without an engine, beside transformers' processor."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from PIL import Image

from jobs.demo.dataset import held_out_scenes
from jobs.demo.drawings import draw
from jobs.registry import find_model
from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import RowError, UserError
from pipeline.contract.record import Outcome
from pipeline.contract.task import ImageRef, Request, Sampling
from pipeline.engine.vllm_renderer import VllmRenderer

MODEL = find_model("demo").path
PROMPT = "Describe this image."


def renderer(**fields: Any) -> VllmRenderer:
    config = EngineConfig(model=MODEL, dtype="float32", max_model_len=512, **fields)
    return VllmRenderer(config)


def wide() -> Image.Image:
    (scene,) = islice(held_out_scenes(3), 1)
    image = Image.new("RGB", (1200, 400), "white")
    image.paste(draw(scene).resize((400, 400)), (0, 0))
    return image


def everyones(images: list[Image.Image], **options: Any) -> tuple[list[int], int]:
    """The ids and the number of views that transformers' own processor makes."""
    from transformers import AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(MODEL)
    content = [{"type": "image"}] * len(images) + [{"type": "text", "text": PROMPT}]
    messages = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    made = processor(
        text=text, images=[images], add_special_tokens=False, return_tensors="pt", **options
    )
    return made["input_ids"][0].tolist(), len(made["pixel_values"])


def test_an_argument_that_vllm_does_not_take_is_told() -> None:
    told = r"^engine_args: vLLM's engine takes no 'gpu_memory_utilisation'; did you mean "
    with pytest.raises(UserError, match=told + r"'gpu_memory_utilization'\?$"):
        renderer(engine_args={"gpu_memory_utilisation": 0.5})
    with pytest.raises(UserError, match=r"^engine_args: vLLM's engine takes no 'zzzzzzzz'$"):
        renderer(engine_args={"zzzzzzzz": 0.5})


@pytest.mark.parametrize("pan_and_scan", [False, True])
def test_pan_and_scan_is_the_references(pan_and_scan: bool) -> None:
    request = Request(PROMPT, Sampling(8), images=(ImageRef(None),) * 2)
    images = [wide(), wide().rotate(90, expand=True)]
    rendered = renderer(max_images=2, pan_and_scan=pan_and_scan).render(request, images)
    ids, views = everyones(images, do_pan_and_scan=pan_and_scan)
    assert rendered.prompt["prompt_token_ids"] == ids
    assert views == (8 if pan_and_scan else 2)
    pixels = [item["pixel_values"].data for item in rendered.prompt["mm_kwargs"]["image"]]
    assert sum(len(views) for views in pixels) == views


def test_words_are_weighed_by_their_tokens() -> None:
    made = renderer()
    request = Request(PROMPT, Sampling(1, score_tokens=("Yes", "No")))
    yes, no = made.render(request, []).scored_token_ids
    assert made._prompts.encode("Yes", None, 0).count(yes) == 1
    assert yes != no
    with pytest.raises(ValueError, match=r"'Yes, it does' is .* tokens, not one"):
        made.render(Request(PROMPT, Sampling(1, score_tokens=("Yes, it does",))), [])


def test_a_prompt_may_be_a_image_alone() -> None:
    made = renderer()
    with_words = made.render(Request("x", Sampling(1), images=(ImageRef(None),)), [wide()])
    alone = made.render(Request("", Sampling(1), images=(ImageRef(None),)), [wide()])
    assert 0 < with_words.prompt_tokens - alone.prompt_tokens < 4


def test_what_is_too_much_is_that_requests_outcome() -> None:
    made = renderer()
    for request, images in (
        (Request("word " * 600, Sampling(1)), []),
        (Request("x", Sampling(1), images=(ImageRef(None),) * 2), [wide(), wide()]),
    ):
        with pytest.raises(RowError) as fault:
            made.render(request, images)
        assert fault.value.outcome is Outcome.TOO_LONG


def test_texts_are_counted_as_they_are_rendered() -> None:
    made = renderer()
    text = "a red circle <start_of_image> on a white background"
    empty, full = (made.render(Request(t, Sampling(1)), []).prompt_tokens for t in ("a", text))
    assert abs((full - empty + 1) - made.count(text)) <= 1
