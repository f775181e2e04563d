"""What training sees is what the jobs send: the processor's ids and the processor's pixels."""

import pytest
import torch
from transformers import AutoProcessor, Gemma3Processor

from jobs.demo.dataset import is_held_out
from jobs.demo.evaluate import CHECKPOINT, scene_image
from jobs.demo.examples import (
    IGNORED,
    Batch,
    Examples,
    conversation,
    model_pixels,
    model_roles,
    training_scenes,
)
from jobs.demo.phrases import CAPTION_PROMPT, caption
from jobs.demo.sight import figures, label, normalised, patch_roles, patches
from jobs.demo.tokenizer import IMAGE_SIZE


@pytest.fixture(scope="module")
def processor() -> Gemma3Processor:
    return AutoProcessor.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def examples(processor: Gemma3Processor) -> Examples:
    scenes = training_scenes(200)
    pixels = torch.stack([torch.from_numpy(model_pixels(scene)) for scene in scenes])
    return Examples(processor, scenes, pixels, seed=0)


def _prompt(batch: Batch, row: int) -> list[int]:
    kept = (batch.labels[row] == IGNORED).tolist()
    ids: list[int] = batch.input_ids[row].tolist()
    return [token for token, prompt in zip(ids, kept, strict=True) if prompt and token != 0]


def test_a_training_prompt_is_the_processors(
    processor: Gemma3Processor, examples: Examples
) -> None:
    batch = examples.captions(4)
    text = processor.apply_chat_template(
        conversation(CAPTION_PROMPT, image=True), add_generation_prompt=True
    )
    scene = training_scenes(1)[0]
    inputs = processor(
        text=text, images=[scene_image(scene)], add_special_tokens=False, return_tensors="pt"
    )
    assert _prompt(batch, 0) == inputs["input_ids"][0].tolist()
    width = inputs["token_type_ids"].shape[1]
    assert torch.equal(batch.token_type_ids[0, :width], inputs["token_type_ids"][0])
    pixels = normalised(torch.from_numpy(model_pixels(scene)))
    torch.testing.assert_close(pixels, inputs["pixel_values"][0], atol=1e-6, rtol=0)


def test_only_the_answer_is_learned(processor: Gemma3Processor, examples: Examples) -> None:
    captions = {caption(scene) for scene in training_scenes(200)}
    batch = examples.captions(16)
    for row in range(16):
        answer = processor.tokenizer.decode(batch.labels[row][batch.labels[row] != IGNORED])
        assert answer.removesuffix("<end_of_turn>") in captions
    batch = examples.verdicts(16)
    answers = {processor.tokenizer.decode(row[row != IGNORED]) for row in batch.labels}
    assert answers == {"Yes<end_of_turn>", "No<end_of_turn>"}


def test_training_scenes_are_not_held_out() -> None:
    assert not any(map(is_held_out, training_scenes(2000)))


def test_every_shape_is_seen_by_one_soft_token_and_some_patches() -> None:
    scenes = training_scenes(200)
    roles = torch.stack([torch.from_numpy(model_roles(scene)) for scene in scenes])
    labels = label(scenes, roles)
    shown = patch_roles(patches(roles))
    for scene, centres, patch in zip(scenes, labels.centres, shown, strict=True):
        for role in (1, 2):
            there = role <= len(scene.things)
            assert (centres == role).sum() == there
            assert bool((patch == role).any()) == there


def test_patches_are_cut_row_by_row() -> None:
    image = torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    image[:, :, 14:28, 28:42] = 1  # the second row's third patch, wholly
    image[:, :, 0:2, 0:2] = 2  # one block of the first
    cut = patches(image)
    assert patch_roles(cut)[0].nonzero().flatten().tolist() == [10]
    figure = figures(cut)
    assert figure[0, 10].min() == 1
    assert figure[0, 0].tolist() == [1.0] + [0.0] * 48
