"""The moderation task: its requests, and its result columns; without a model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from jobs.moderation.policies import IMAGE_POLICIES, IMAGE_PROMPT, TEXT_PROMPT, Policy
from jobs.moderation.task import Judge, ModerationTask, moderation_task, probability
from jobs.registry import find_model
from jobs.sdk.retry import restore_task
from pipeline import ColumnKind, Generation, Outcome, RowError, UserError
from pipeline.engine.profile import SHIELDGEMMA2, ModelProfile
from tests.jobs.moderation.shield import TEMPLATE

GEMMA3 = ModelProfile(
    architecture="Gemma3ForConditionalGeneration",
    max_positions=1024,
    chat_template="<start_of_turn>",
)
SHIELD = replace(GEMMA3, architecture=SHIELDGEMMA2, chat_template=TEMPLATE.read_text())
POLICIES = (
    Policy(name="stars", text="No stars"),
    Policy(name="red", text="No red", threshold=0.9),
)


def task(**changes: Any) -> ModerationTask:
    settings = {"policies": POLICIES, "judge": "gemma3", "prompt": IMAGE_PROMPT}
    return ModerationTask(**{**settings, "image_column": "image", **changes})


def weighed(yes: float) -> Generation:
    return Generation("", 30, 1, "length", log_probabilities=(math.log(yes), math.log(1 - yes)))


def failed(outcome: Outcome, message: str) -> Generation:
    return Generation("", 0, 0, "", failure=RowError(outcome, "render", message))


def test_a_row_is_one_request_a_policy_with_the_same_image_first() -> None:
    assert task().columns == {"image": ColumnKind.IMAGE}
    requests = task().prepare({"image": b"bytes"}).requests
    assert ["No stars" in requests[0].prompt, "No red" in requests[1].prompt] == [True, True]
    assert len({id(request.images[0].value) for request in requests}) == 1
    for request in requests:
        assert request.sampling.score_tokens == ("Yes", "No")
        assert (request.sampling.max_tokens, request.may_fail) == (1, True)


def test_a_text_stands_before_the_policies() -> None:
    texts = task(prompt=TEXT_PROMPT, image_column=None, text_column="body")
    assert texts.columns == {"body": ColumnKind.TEXT}
    first, second = (r.prompt for r in texts.prepare({"body": "a {policy} b"}).requests)
    shared = first[: first.index("No stars")]
    assert shared.startswith("<BEGIN_TEXT>\na {policy} b\n")
    assert second.startswith(shared)
    with pytest.raises(RowError, match="column 'body' has no value") as told:
        texts.prepare({"body": None})
    assert told.value.outcome is Outcome.MISSING_INPUT
    with pytest.raises(RowError, match="int is not text"):
        texts.prepare({"body": 3})


def test_the_probability_is_the_softmax_of_yes() -> None:
    assert probability(-1.0, -2.0) == pytest.approx(math.exp(-1) / (math.exp(-1) + math.exp(-2)))
    assert probability(-2.0, -1.0) == pytest.approx(1 - probability(-1.0, -2.0))
    assert probability(-700.0, -1.0) > 0
    assert probability(-math.inf, -1.0) == 0
    assert probability(0.0, -800.0) == 1
    assert math.isnan(probability(-math.inf, -math.inf))


def test_a_policys_own_threshold_decides() -> None:
    result = task().result(None, [weighed(0.3), weighed(0.85)])
    assert result.columns == {
        "p_stars": pytest.approx(0.3),
        "p_red": pytest.approx(0.85),
        "flagged": False,
        "labels": [],
    }
    assert (result.outcome, result.error) == (Outcome.OK, None)
    columns = task().result(None, [weighed(0.51), weighed(0.95)]).columns
    assert (columns["flagged"], columns["labels"]) == (True, ["stars", "red"])


def test_a_probability_that_equals_the_threshold_is_a_violation() -> None:
    one = task(policies=(Policy(name="stars", text="No stars", threshold=0.5),))
    assert one.result(None, [weighed(0.5)]).columns == {
        "p_stars": 0.5,
        "flagged": True,
        "labels": ["stars"],
    }


def test_a_policy_that_failed_is_null_and_the_other_one_is_kept() -> None:
    long = failed(Outcome.TOO_LONG, "the prompt has 9 tokens")
    result = task().result(None, [weighed(0.9), long])
    assert result.columns == {"p_stars": pytest.approx(0.9), "flagged": True, "labels": ["stars"]}
    assert result.outcome is Outcome.TOO_LONG
    assert result.error == "red: render: the prompt has 9 tokens"
    result = task().result(None, [weighed(0.1), long])
    assert (result.columns["flagged"], result.columns["labels"]) == (None, [])
    nowhere = Generation("", 30, 1, "length", log_probabilities=(-math.inf, -math.inf))
    assert task().result(None, [weighed(0.1), nowhere]).outcome is Outcome.ENGINE_ERROR


def test_an_image_that_is_missing_is_told_once() -> None:
    missing = failed(Outcome.MISSING_INPUT, "the image is null")
    result = task().result(None, [missing, missing])
    assert result.columns == {"flagged": None, "labels": None}
    assert (result.outcome, result.error) == (
        Outcome.MISSING_INPUT,
        "render: the image is null",
    )
    both = [missing, failed(Outcome.ENGINE_ERROR, "x")]
    result = task().result(None, both)
    assert result.outcome is Outcome.ENGINE_ERROR
    assert result.error == "stars: render: the image is null; red: render: x"


def test_the_model_decides_who_judges_and_in_which_words() -> None:
    folder = find_model("/some/folder")
    shield = moderation_task(SHIELD, folder, image_column="image")
    assert (shield.judge, shield.prompt) == (Judge.SHIELDGEMMA2, "{policy}")
    assert shield.policies == IMAGE_POLICIES
    (first, *_) = shield.prepare({"image": b""}).requests
    assert first.prompt == IMAGE_POLICIES[0].text
    gemma = moderation_task(GEMMA3, folder, image_column="image")
    assert (gemma.judge, gemma.prompt) == (Judge.GEMMA3, IMAGE_PROMPT)
    texts = moderation_task(GEMMA3, folder, text_column="body")
    assert texts.prompt == TEXT_PROMPT
    assert "The text shall not" in texts.policies[0].text
    demo = moderation_task(GEMMA3, find_model("demo"), image_column="image")
    assert [policy.name for policy in demo.policies][:2] == ["stars", "round_shapes"]
    assert demo.prompt.startswith("<BEGIN_SAFETY_POLICY>")


def test_a_base_model_continues_with_its_verdict() -> None:
    base, folder = GEMMA3.prompted("raw", "m"), find_model("/some/folder")
    for column in ({"text_column": "body"}, {"image_column": "image"}):
        asked = moderation_task(base, folder, **column).prepare({"body": "x", "image": b""})
        assert all(request.prompt.endswith("'No'.\nAnswer:") for request in asked.requests)
    shield = moderation_task(SHIELD.prompted("raw", "m"), folder, image_column="image")
    assert shield.judge is Judge.SHIELDGEMMA2
    assert shield.prompt.startswith(IMAGE_PROMPT)  # there is no template to put words around it


def test_what_cannot_be_judged_is_refused() -> None:
    folder = find_model("/some/folder")
    with pytest.raises(UserError, match="text column 'body': ShieldGemma 2 judges images only"):
        moderation_task(SHIELD, folder, text_column="body")
    with pytest.raises(UserError, match="leave the prompt out"):
        moderation_task(SHIELD, folder, image_column="image", prompt="Is it {policy}?")
    with pytest.raises(UserError, match="one of the two"):
        moderation_task(GEMMA3, folder)
    with pytest.raises(UserError, match="one of the two"):
        moderation_task(GEMMA3, folder, image_column="image", text_column="body")
    with pytest.raises(UserError, match=r"should have \{policy\} in it once"):
        task(prompt="Is it bad?")
    with pytest.raises(UserError, match=r"should have \{text\} in it once"):
        task(image_column=None, text_column="body")
    with pytest.raises(UserError, match="two policies 'red'"):
        task(policies=[*POLICIES, POLICIES[1]])
    with pytest.raises(UserError, match="give at least one"):
        task(policies=[])


def test_a_run_s_record_gives_the_same_task_back() -> None:
    recorded = json.loads(json.dumps(task().settings))
    assert recorded["judge"] == "gemma3"
    again = restore_task({"task": "moderate", "settings": recorded})
    assert again == task()
    assert again.result_schema.names == ["p_stars", "p_red", "flagged", "labels"]
