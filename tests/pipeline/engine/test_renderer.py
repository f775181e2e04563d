"""The real renderer, without an engine, beside transformers' processor."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gemma3_model.tokenizer import TextTokenizer
from jobs.demo.dataset import held_out_scenes
from jobs.demo.drawings import draw
from jobs.registry import find_model
from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import RowError, UserError
from pipeline.contract.record import Outcome
from pipeline.contract.task import ImageRef, Request, Sampling
from pipeline.engine import model_files
from pipeline.engine.renderer import GemmaRenderer

MODEL = find_model("demo").path
PROMPT = "Describe this image."


def renderer(**fields: Any) -> GemmaRenderer:
    config = EngineConfig(model=MODEL, dtype="float32", max_model_len=512, **fields)
    return GemmaRenderer(config)


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


def variant(folder: Path, *without: str, **config: object) -> str:
    """A copy of the bundled model."""
    shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns(*without))
    settings = json.loads((folder / "config.json").read_text()) | config
    for place in (settings, settings["text_config"], settings["vision_config"]):
        place.pop("dtype", None)
    (folder / "config.json").write_text(json.dumps(settings))
    return str(folder)


def spied(function: Any, asked: list[object]) -> Any:
    """The function, which notes its first argument."""

    def spy(first: Any, *others: Any) -> Any:
        asked.append(first)
        return function(first, *others)

    return spy


def test_a_renderer_reads_no_weights(tmp_path: Path) -> None:
    """vLLM would look into them, where the configuration names no number format."""
    model = variant(tmp_path / "m", "model.safetensors")
    (tmp_path / "m/model.safetensors").write_bytes(b"short")
    made = GemmaRenderer(EngineConfig(model=model, max_model_len=512))
    request = Request(PROMPT, Sampling(8), images=(ImageRef(None),))
    same, other = (one.render(request, [wide()]).prompt for one in (made, renderer()))
    assert same.token_ids == other.token_ids


def test_raw_text_goes_to_the_model_as_it_is(tmp_path: Path) -> None:
    model = variant(tmp_path / "m", "chat_template.jinja")
    config = EngineConfig(model=model, max_model_len=512, prompt_format="raw")
    made = GemmaRenderer(config)
    text, soft = "a red circle", made._profile
    assert soft.continues_text
    alone = made.render(Request(text, Sampling(8)), []).prompt.token_ids
    assert made._prompts._tokenizer.decode(alone) == f"<bos>{text}"
    image = made.render(Request(text, Sampling(8), images=(ImageRef(None),)), [wide()])
    shown = made._prompts._tokenizer.decode(image.prompt.token_ids)
    assert re.fullmatch(
        r"<bos>\n\n<start_of_image>(<image_soft_token>){16}<end_of_image>\n\na red circle", shown
    )


def test_a_renderer_reads_the_tokenizer_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma's own takes a second; of a base model its control tokens are looked at too."""
    model = variant(tmp_path / "m", "chat_template.jinja")
    (tmp_path / "m/tokenizer_config.json").write_text("{}")  # it has a template as well
    read = []
    monkeypatch.setattr(TextTokenizer, "from_folder", spied(TextTokenizer.from_folder, read))
    monkeypatch.setattr(model_files, "_read_control_ids", spied(None, read))
    made = GemmaRenderer(EngineConfig(model=model, max_model_len=512, prompt_format="gemma"))
    assert made._profile.ends_turns
    assert read == [Path(model)]


def test_a_broken_template_or_tokenizer_is_the_models_fault(tmp_path: Path) -> None:
    model = variant(tmp_path / "m")
    (tmp_path / "m/chat_template.jinja").write_text("{% for x in messages %}")
    with pytest.raises(UserError, match="its chat template is not Jinja \\(line 1: "):
        GemmaRenderer(EngineConfig(model=model, max_model_len=512))
    (tmp_path / "m/tokenizer.json").write_text("{}")
    (tmp_path / "m/tokenizer.model").unlink()
    with pytest.raises(UserError, match="its tokenizer cannot be loaded"):
        GemmaRenderer(EngineConfig(model=model, max_model_len=512))


@pytest.mark.parametrize("pan_and_scan", [False, True])
def test_pan_and_scan_is_the_references(pan_and_scan: bool) -> None:
    request = Request(PROMPT, Sampling(8), images=(ImageRef(None),) * 2)
    images = [wide(), wide().rotate(90, expand=True)]
    rendered = renderer(max_images=2, pan_and_scan=pan_and_scan).render(request, images)
    ids, views = everyones(images, do_pan_and_scan=pan_and_scan)
    assert rendered.prompt.token_ids == ids
    assert views == (8 if pan_and_scan else 2)
    assert sum(len(image.pixels) for image in rendered.prompt.images) == views


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


def test_limits_that_a_tokenizer_was_saved_with_cut_no_text(tmp_path: Path) -> None:
    model = variant(tmp_path / "m")
    file = tmp_path / "m/tokenizer.json"
    saved = json.loads(file.read_text())
    saved["truncation"] = {
        "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    saved["padding"] = {
        "strategy": {"Fixed": 600}, "direction": "Left", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
    }  # fmt: skip
    file.write_text(json.dumps(saved))
    limited, free = GemmaRenderer(EngineConfig(model=model, max_model_len=512)), renderer()
    for text in ("a red circle " * 20, "a"):
        assert limited.count(text) == free.count(text)


def test_pan_and_scan_needs_no_file_of_its_own(tmp_path: Path) -> None:
    """transformers 5 writes `processor_config.json` alone, with the other one inside."""
    model = variant(tmp_path / "m", "preprocessor_config.json")
    config = EngineConfig(model=model, max_model_len=512, pan_and_scan=True)
    request = Request(PROMPT, Sampling(8), images=(ImageRef(None),))
    (image,) = GemmaRenderer(config).render(request, [wide()]).prompt.images
    assert len(image.pixels) > 1


LIGHT = """
import re, sys, time
from pathlib import Path
began = time.perf_counter()
from PIL import Image
from pipeline.contract.config import EngineConfig
from pipeline.contract.task import ImageRef, Request, Sampling
from pipeline.engine import model_files
from pipeline.engine.renderer import GemmaRenderer
renderer = GemmaRenderer(EngineConfig(model="demo", max_model_len=512))
request = Request("Describe this image.", Sampling(8), images=(ImageRef(None),))
assert renderer.render(request, [Image.new("RGB", (300, 200))]).prompt.images
seconds = time.perf_counter() - began
memory = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
heavy = [name for name in ("torch", "vllm", "transformers", "ray") if name in sys.modules]
print(f"{seconds:.2f} s {memory:.0f} MB", *heavy)
"""


def test_a_renderer_is_light() -> None:
    """There are sixteen beside each engine. Printed: seconds to the first prompt, and memory."""
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    print(done.stdout)
    _, _, memory, _, *heavy = done.stdout.split()
    assert heavy == []
    assert int(memory) < 250


def test_text_before_each_image_is_where_the_reference_has_it() -> None:
    """As for frames of a video: text, image, text, image, and then the question."""
    from transformers import AutoProcessor

    labels = ("Frame at 0.5 seconds:", "Frame at 12.25 seconds:")
    images = [wide(), wide().rotate(90, expand=True)]
    processor: Any = AutoProcessor.from_pretrained(MODEL)
    content: list[dict[str, str]] = []
    for label in labels:
        content += [{"type": "text", "text": label}, {"type": "image"}]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": PROMPT}]}]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    made = processor(text=text, images=[images], add_special_tokens=False, return_tensors="pt")
    request = Request(PROMPT, Sampling(8), images=(ImageRef(None),) * 2, labels=labels)
    found = renderer(max_images=2).render(request, images).prompt
    assert found.token_ids == made["input_ids"][0].tolist()
    assert len(found.places) == 2
    with pytest.raises(ValueError, match="2 labels for 1 images"):
        renderer().render(request, images[:1])
