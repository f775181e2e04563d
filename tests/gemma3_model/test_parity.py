"""Our Gemma 3 inside vLLM says what transformers says, and the comparison can tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from vllm import LLM

from gemma3_model import attention, attention_cpu, rope
from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import Prompt, Reference, attention_backends, difference, engine, run

TOLERANCE = 1e-3
"""Nats; the promise. What is seen is some 1e-5."""

TURN = "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n"
SHORT_TEXT = "a red circle left of a blue star on a white background. " * 3
LONG_TEXT = SHORT_TEXT * 4


def sample_image(seed: int) -> Image.Image:
    """Noise in large blocks, so that every soft token differs and none is near grey."""
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 11, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((200 + 7 * seed, 150), Image.Resampling.NEAREST)


PROMPTS = {
    "no image": Prompt(text=TURN.format("Describe nothing.")),
    "one": Prompt(text=TURN.format("<start_of_image>Describe it."), images=(sample_image(1),)),
    "three": Prompt(
        text=TURN.format(
            "<start_of_image> and\n<start_of_image>\n\n\nthen <start_of_image>\n\nWhich?"
        ),
        images=(sample_image(2), sample_image(3), sample_image(4)),
    ),
    "adjacent": Prompt(
        text=TURN.format("<start_of_image><start_of_image>Same?"),
        images=(sample_image(5), sample_image(6)),
    ),
    "four": Prompt(
        text=TURN.format("<start_of_image> " * 4 + "Which?"),
        images=tuple(sample_image(seed) for seed in range(8, 12)),
    ),
    "text longer than the window": Prompt(text=TURN.format(LONG_TEXT)),
    "image after long text": Prompt(
        text=TURN.format(LONG_TEXT + "<start_of_image>" + LONG_TEXT), images=(sample_image(7),)
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
    assert attention_backends(llm) == ["gemma3_model.attention_cpu.ImageAwareCPUBackend"]


# What the sizes differ in, with their own numbers of heads: heads, key heads, scale, window.
# The windows are smaller than an image's 16 soft tokens, equal to them, and larger.
TEXT_SIZES = {"270m": (4, 1, 32, 24), "1b": (4, 1, 32, 48)}
IMAGE_SIZES = {"4b": (8, 4, 32, 5), "12b": (16, 8, 32, 16), "27b": (32, 16, 20, 64)}


def shape(heads: int, kv_heads: int, scalar: int, window: int) -> dict[str, Any]:
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "query_pre_attn_scalar": scalar,
        "sliding_window": window,
    }


@pytest.mark.parametrize("size", list(IMAGE_SIZES))
def test_sizes_with_images(tmp_path: Path, size: str) -> None:
    folder = checkpoints.multimodal(tmp_path, **shape(*IMAGE_SIZES[size]))
    with engine(folder) as llm:
        differences = worst(llm, Reference(folder), list(PROMPTS))
    assert max(differences.values()) < TOLERANCE, differences


@pytest.mark.parametrize("size", list(TEXT_SIZES))
def test_sizes_for_text_only(tmp_path: Path, size: str) -> None:
    """These have no scaling of positions; one names its decoder as if it were inside another."""
    rope = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
    }
    folder = checkpoints.text_only(tmp_path, rope_parameters=rope, **shape(*TEXT_SIZES[size]))
    reference = Reference(folder, has_images=False)
    if size == "1b":
        tensors = load_file(folder / "model.safetensors")
        renamed = {f"language_model.{name}": tensor for name, tensor in tensors.items()}
        save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    names = [name for name in PROMPTS if name not in WITH_IMAGES]
    with engine(folder) as llm:
        assert llm.collective_rpc("loaded_model_class") == ["gemma3_model.text.Gemma3ForCausalLM"]
        differences = worst(llm, reference, names)
    assert max(differences.values()) < TOLERANCE, differences


@pytest.mark.parametrize(
    "settings", [{"language_model_only": True}, {"limit_mm_per_prompt": {"image": 0}}]
)
def test_language_model_only(
    checkpoint: Path, reference: Reference, settings: dict[str, Any]
) -> None:
    """The tower is neither built nor missed among the weights."""
    names = [name for name in PROMPTS if name not in WITH_IMAGES]
    with engine(checkpoint, **settings) as llm:
        (parts,) = llm.apply_model(_parts)
        differences = worst(llm, reference, names)
    assert parts == {"language_model"}
    assert max(differences.values()) < TOLERANCE, differences


def _parts(model: nn.Module) -> set[str]:
    return {name.partition(".")[0] for name, _ in model.named_parameters()}


@pytest.mark.parametrize("tokens", [40, 64])
def test_images_are_never_cut_between_steps(
    checkpoint: Path, reference: Reference, tokens: int
) -> None:
    """Steps of so few tokens: images begin in the middle of one and would straddle two."""
    with engine(checkpoint, max_num_batched_tokens=tokens, max_num_seqs=4) as llm:
        differences = worst(llm, reference, list(PROMPTS))
    assert max(differences.values()) < TOLERANCE, differences


def test_prefix_cache(checkpoint: Path, reference: Reference) -> None:
    """A prompt once more, and others that share a part of it; blocks of 32 end inside images.

    Only what is generated is compared: asked for the prompt's log-probabilities, vLLM reads
    nothing from the cache.
    """
    first = Prompt(
        text=TURN.format(
            LONG_TEXT + "<start_of_image>" + SHORT_TEXT + "<start_of_image>" + SHORT_TEXT
        ),
        images=(sample_image(2), sample_image(3)),
    )
    prompts = [
        first,
        Prompt(text=first.text, images=(sample_image(2), sample_image(12))),
        Prompt(
            text=TURN.format(LONG_TEXT + "<start_of_image>" + SHORT_TEXT), images=(sample_image(2),)
        ),
        Prompt(text=first.text, images=(sample_image(12), sample_image(3))),
    ]
    settings = {
        "enable_prefix_caching": True,
        "max_num_batched_tokens": 64,
        # By default vLLM keeps of local layers only what the end of a prompt needs.
        "prefix_cache_retention_interval": None,
    }
    with engine(checkpoint, **settings) as llm:
        run(llm, [first], prompt_logprobs=False)
        outputs = [run(llm, [prompt], prompt_logprobs=False)[0] for prompt in prompts]
    cached = [output.num_cached_tokens for output in outputs]
    assert cached[0] > cached[1] == cached[2] > cached[3] > 0, cached
    for prompt, output in zip(prompts, outputs, strict=True):
        assert difference(reference, prompt, output).worst < TOLERANCE


def _causal_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        attention_cpu.ImageAwareMetadataBuilder, "_segments", staticmethod(lambda _: [])
    )


def _vllm_s_own_cpu_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "attention_backend", lambda: None)
    monkeypatch.setattr(attention, "require_image_mask", lambda _: None)


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
        (_causal_images, "one"),
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
