"""The committed checkpoint is as good as its README says, and only because it sees the image."""

import itertools
import json
from collections.abc import Callable

import pytest
from PIL import Image
from safetensors import safe_open
from transformers import Gemma3ForConditionalGeneration

from jobs.demo.dataset import held_out_scenes
from jobs.demo.evaluate import (
    CHECKPOINT,
    EVALUATION_SEED,
    ReferenceModel,
    moderation_scores,
    scene_image,
    translation_scores,
)
from jobs.demo.phrases import CAPTION_PROMPT, caption
from jobs.demo.save import hub_name

SCENES = list(itertools.islice(held_out_scenes(EVALUATION_SEED), 64))


@pytest.fixture(scope="module")
def model() -> ReferenceModel:
    return ReferenceModel.load(CHECKPOINT)


def _exact(model: ReferenceModel, see: Callable[[Image.Image], Image.Image]) -> float:
    """The share of exact captions when every image is changed by `see`."""
    images = [see(scene_image(scene)) for scene in SCENES]
    answers = model.answers([CAPTION_PROMPT] * len(SCENES), images)
    truths = [caption(scene) for scene in SCENES]
    return sum(a == t for a, t in zip(answers, truths, strict=True)) / len(SCENES)


def test_held_out_captions_are_exact(model: ReferenceModel) -> None:
    assert _exact(model, lambda image: image) >= 0.98


def test_captions_come_from_the_image(model: ReferenceModel) -> None:
    assert _exact(model, lambda image: Image.new("RGB", image.size, "white")) <= 0.05
    mirrored = _exact(model, lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert 0.2 <= mirrored <= 0.8  # wrong where the relation is left or right, right elsewhere


def test_translations_are_exact(model: ReferenceModel) -> None:
    for score in translation_scores(model, SCENES):
        assert score.value >= 0.98, score


def test_policies_are_told_apart(model: ReferenceModel) -> None:
    for score in moderation_scores(model, SCENES):
        assert score.value >= 0.99, score


def test_weights_have_the_hubs_names_and_float32() -> None:
    with safe_open(CHECKPOINT / "model.safetensors", "pt") as file:
        names = list(file.keys())
        assert {file.get_slice(name).get_dtype() for name in names} == {"F32"}
    prefixes = ("language_model.model.", "vision_tower.vision_model.", "multi_modal_projector.")
    assert all(name.startswith(prefixes) for name in names)
    _, info = Gemma3ForConditionalGeneration.from_pretrained(CHECKPOINT, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def test_the_checkpoint_is_a_small_gemma_3() -> None:
    config = json.loads((CHECKPOINT / "config.json").read_text())
    assert config["architectures"] == ["Gemma3ForConditionalGeneration"]
    assert config["mm_tokens_per_image"] == 16
    assert config["text_config"]["layer_types"] == ["sliding_attention"] * 5 + ["full_attention"]
    assert sum(file.stat().st_size for file in CHECKPOINT.iterdir()) < 16e6


def test_names_are_the_hubs() -> None:
    name = "model.vision_tower.encoder.layers.0.mlp.fc1.bias"
    assert hub_name(name) == "vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias"
    with pytest.raises(ValueError, match="lm_head"):
        hub_name("lm_head.weight")
