"""Several questions, penalties, stops and qualities, through the bundled model in a warm engine.

What the engine says of an answer's quality is compared with transformers' own numbers.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch

from jobs import Engine, caption, translate
from jobs.demo.dataset import held_out_scenes, jpeg
from jobs.demo.evaluate import ReferenceModel, scene_image
from jobs.demo.phrases import CAPTION_PROMPT, translation
from jobs.demo.phrases import caption as truth
from jobs.options.languages import find_language
from jobs.registry import find_model
from jobs.translation.prompts import text_prompt
from tests.gemma3_model.test_parity import sample_image

SCENES = [*islice(held_out_scenes(31), 6)]
IMAGES = [jpeg(scene) for scene in SCENES]
TRUTHS = [truth(scene) for scene in SCENES]
TO_GERMAN = text_prompt("{caption}", find_language("en"), find_language("de"))
TOLERANCE = 1e-4

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def reference() -> ReferenceModel:
    from pathlib import Path

    return ReferenceModel.load(Path(find_model("demo").path))


def test_a_question_uses_the_answer_to_another(warm_engine: Engine) -> None:
    """The bundled model's German can be right only if it was given the caption."""
    prompts = [
        {"name": "german", "prompt": TO_GERMAN, "image": False},
        {"name": "caption", "prompt": CAPTION_PROMPT},
        {"name": "again", "prompt": CAPTION_PROMPT, "stop": " on", "max_tokens": 60},
    ]
    rows = caption([*IMAGES, b"no image"], engine=warm_engine, prompts=prompts)
    *good, broken = rows
    assert [row["caption"] for row in good] == TRUTHS
    assert [row["german"] for row in good] == [translation(scene, "de") for scene in SCENES]
    assert [row["again"] for row in good] == [text.partition(" on")[0] for text in TRUTHS]
    assert {row[name] for row in good for name in row if name.endswith("outcome")} == {"ok"}
    assert broken["outcome"] == broken["german_outcome"] == "decode_error"
    assert broken["caption"] is broken["german"] is None


@torch.inference_mode()
def mean_log_probability(
    reference: ReferenceModel, prompt: str, answer: str, image: Any = None
) -> float:
    """Of an answer and the end of its turn, by transformers."""
    inputs = reference._inputs([prompt], None if image is None else [image])
    tokenizer = reference.processor.tokenizer
    ids = tokenizer.encode(f"{answer}<end_of_turn>", add_special_tokens=False)
    new = torch.tensor([ids])
    whole = {
        **inputs,
        "input_ids": torch.cat([inputs["input_ids"], new], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(new)], 1),
        "token_type_ids": torch.cat([inputs["token_type_ids"], torch.zeros_like(new)], 1),
    }
    logits = reference.model(**whole).logits[0, -len(ids) - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, new.T).mean())


@pytest.mark.long
def test_a_captions_quality_is_the_models_own_mean_log_probability(
    warm_engine: Engine, reference: ReferenceModel
) -> None:
    images = [sample_image(0), scene_image(SCENES[0])]  # the model is unsure of noise
    plain = caption(images, engine=warm_engine)
    assert "caption_quality" not in plain[0]
    due = [
        mean_log_probability(reference, CAPTION_PROMPT, row["caption"], image)
        for row, image in zip(plain, images, strict=True)
    ]
    assert due[0] < -0.05 < due[1]
    # With a stop the engine core hands out every token, and vLLM itself sums up.
    for options in ({}, {"stop": "@@"}, {"presence_penalty": 0.01}):
        rows = caption(images, engine=warm_engine, quality=True, **options)
        assert [row["caption"] for row in rows] == [row["caption"] for row in plain]
        assert [row["caption_quality"] for row in rows] == pytest.approx(due, abs=TOLERANCE)


@pytest.mark.long
def test_a_translations_quality_is_that_of_all_its_answers(
    warm_engine: Engine, reference: ReferenceModel
) -> None:
    text = "a red star and two blue boats"  # the model knows no boats
    options = {"source": "en", "to": ["de"], "check_language": False}
    (row,) = translate([text], engine=warm_engine, **options, quality=True)
    prompt = text_prompt(text, find_language("en"), find_language("de"))
    due = mean_log_probability(reference, prompt, row["text_de"])
    assert due < -0.02
    assert row["text_de_quality"] == pytest.approx(due, abs=TOLERANCE)


@pytest.mark.long
def test_a_penalty_keeps_an_answer_from_going_round(warm_engine: Engine) -> None:
    """Of noise the model says "derecha derecha derecha ..."."""
    plain, repeated, frequent = (
        caption([sample_image(2)], engine=warm_engine, max_tokens=40, **penalty)[0]
        for penalty in ({}, {"repetition_penalty": 2.0}, {"frequency_penalty": 2.0})
    )
    assert plain["outcome"] == "repetition"
    for row in (repeated, frequent):
        assert row["outcome"] in ("ok", "truncated"), row["error"]
        assert row["caption"].count("derecha") < 8


def test_a_document_is_translated_in_order(warm_engine: Engine) -> None:
    text = "# A red circle\n\n- a blue star\n- a green square"
    options = {"engine": warm_engine, "source": "en", "to": ["de"], "check_language": False}
    (plain,) = translate([text], **options)
    (row,) = translate([text], **options, consistent=True)
    assert row["text_de_outcome"]
    # Each chunk but the first is shown what came before it.
    assert row["prompt_tokens"] > plain["prompt_tokens"] + 2 * 20
