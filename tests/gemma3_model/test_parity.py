"""Our Gemma 3 inside vLLM says what transformers says, and the comparison can tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from vllm import LLM

from gemma3_model import attention, attention_cpu, rope
from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import Prompt, Reference, difference, engine, run

TOLERANCE = 1e-3
"""Nats; the promise. What is seen is some 1e-5."""

TURN = "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n"
LONG_TEXT = "a red circle left of a blue star on a white background. " * 12


def picture(seed: int) -> Image.Image:
    """Noise in large blocks, so that every soft token differs and none is near grey."""
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 11, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((200 + 7 * seed, 150), Image.Resampling.NEAREST)


PROMPTS = {
    "no image": Prompt(text=TURN.format("Describe nothing.")),
    "one": Prompt(text=TURN.format("<start_of_image>Describe it."), images=(picture(1),)),
    "three": Prompt(
        text=TURN.format(
            "<start_of_image> and\n<start_of_image>\n\n\nthen <start_of_image>\n\nWhich?"
        ),
        images=(picture(2), picture(3), picture(4)),
    ),
    "adjacent": Prompt(
        text=TURN.format("<start_of_image><start_of_image>Same?"), images=(picture(5), picture(6))
    ),
    "text longer than the window": Prompt(text=TURN.format(LONG_TEXT)),
    "image after long text": Prompt(
        text=TURN.format(LONG_TEXT + "<start_of_image>" + LONG_TEXT), images=(picture(7),)
    ),
}
WITH_IMAGES = [name for name, prompt in PROMPTS.items() if prompt.images]


def worst(llm: LLM, reference: Reference, names: list[str], **options: Any) -> dict[str, float]:
    prompts = [PROMPTS[name] for name in names]
    outputs = run(llm, prompts, **options)
    return {
        name: difference(reference, prompt, output).worst
        for name, prompt, output in zip(names, prompts, outputs, strict=True)
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.multimodal(tmp_path_factory.mktemp("window-24"), sliding_window=24)


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Reference:
    return Reference(checkpoint)


@pytest.fixture(scope="module")
def llm(checkpoint: Path) -> Iterator[LLM]:
    with engine(checkpoint) as llm:
        yield llm


@pytest.mark.parametrize("name", list(PROMPTS))
def test_alone(llm: LLM, reference: Reference, name: str) -> None:
    seen = worst(llm, reference, [name])[name]
    assert seen < TOLERANCE


def test_mixed_batch(llm: LLM, reference: Reference) -> None:
    differences = worst(llm, reference, list(PROMPTS))
    assert max(differences.values()) < TOLERANCE, differences


def test_it_is_our_model_that_runs(llm: LLM) -> None:
    assert llm.collective_rpc("loaded_model_class") == [
        "gemma3_model.model.Gemma3ForConditionalGeneration"
    ]
    assert llm.collective_rpc("attention_backends") == [
        ["gemma3_model.attention_cpu.PictureAwareCPUBackend"]
    ]


@pytest.mark.parametrize("window", [5, 16, 64])
def test_window_and_image_span(tmp_path: Path, window: int) -> None:
    """Smaller than a picture's 16 soft tokens, equal to them, and larger."""
    folder = checkpoints.multimodal(tmp_path, sliding_window=window)
    with engine(folder) as llm:
        differences = worst(llm, Reference(folder), list(PROMPTS))
    assert max(differences.values()) < TOLERANCE, differences


def test_text_only(tmp_path: Path) -> None:
    folder = checkpoints.text_only(tmp_path)
    names = [name for name in PROMPTS if name not in WITH_IMAGES]
    with engine(folder) as llm:
        assert llm.collective_rpc("loaded_model_class") == ["gemma3_model.text.Gemma3ForCausalLM"]
        differences = worst(llm, Reference(folder, has_images=False), names)
    assert max(differences.values()) < TOLERANCE, differences


def test_pictures_are_never_cut_between_steps(checkpoint: Path, reference: Reference) -> None:
    """Steps of 40 tokens: pictures begin in the middle of a step and would straddle two."""
    with engine(checkpoint, max_num_batched_tokens=40, max_num_seqs=4) as llm:
        differences = worst(llm, reference, list(PROMPTS))
    assert max(differences.values()) < TOLERANCE, differences


def test_prefix_cache_hit_inside_a_picture(checkpoint: Path, reference: Reference) -> None:
    """Blocks of 32 tokens end inside pictures, so a repeated prompt begins there."""
    with engine(checkpoint, enable_prefix_caching=True, max_num_batched_tokens=64) as llm:
        run(llm, [PROMPTS["three"]], prompt_logprobs=False)
        (again,) = run(llm, [PROMPTS["three"]], prompt_logprobs=False)
    assert again.num_cached_tokens > 0
    assert difference(reference, PROMPTS["three"], again).worst < TOLERANCE


def _causal_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        attention_cpu.PictureAwareMetadataBuilder, "_segments", staticmethod(lambda _: [])
    )


def _vllm_s_own_cpu_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "attention_backend", lambda: None)


def _one_rope_base_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def local_everywhere(config: Any, _layer: int) -> dict[str, Any]:
        return dict(config.rope_parameters["sliding_attention"])

    monkeypatch.setattr(rope, "rope_parameters", local_everywhere)


def _window_one_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    right = attention.layer_window
    monkeypatch.setattr(
        attention,
        "layer_window",
        lambda config, layer: (window := right(config, layer)) and window + 1,
    )


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (_causal_pictures, "one"),
        (_vllm_s_own_cpu_attention, "one"),
        (_one_rope_base_wrong, "no image"),
        (_window_one_too_long, "text longer than the window"),
    ],
)
def test_the_comparison_sees_a_fault(
    checkpoint: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch, fault: Any, name: str
) -> None:
    fault(monkeypatch)
    with engine(checkpoint) as llm:
        seen = worst(llm, reference, [name])[name]
        assert seen > 10 * TOLERANCE
