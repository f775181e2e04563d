"""From a server's answer to a `Generation`."""

from __future__ import annotations

import math
from typing import Any

import pytest

from jobs.moderation.task import SCORED, probability
from pipeline import Generation, RowError, Sampling
from pipeline.contract.record import Outcome
from pipeline.engine.endpoint.completions import NoLogprobsError, generation_of


def chat(*texts: str, reason: str = "stop", **more: Any) -> dict[str, Any]:
    choices = [
        {"index": n, "message": {"content": text}, "finish_reason": reason, **more}
        for n, text in enumerate(texts)
    ]
    return {"choices": choices, "usage": {"prompt_tokens": 9, "completion_tokens": 4}}


def test_texts_tokens_and_the_reason() -> None:
    body = chat("one", "two", reason="length")
    body["choices"].reverse()
    expected = Generation("one", 9, 4, "length", others=("two",))
    assert generation_of(body, Sampling(4, n=2)) == expected


@pytest.mark.parametrize(
    "wanted", [Sampling(1, score_tokens=("Yes", "No")), Sampling(9, mean_log_probability=True)]
)
def test_a_filtered_answer_is_refused_although_it_has_no_log_probabilities(
    wanted: Sampling,
) -> None:
    with pytest.raises(RowError, match="filtered"):
        generation_of(chat("", reason="content_filter"), wanted)


def test_raw_text_and_no_usage() -> None:
    body = {"choices": [{"text": " a cat", "finish_reason": "stop"}]}
    found = generation_of(body, Sampling(4), continues_text=True)
    assert found == Generation(" a cat", 0, 0, "stop")


@pytest.mark.parametrize(
    ("body", "outcome", "error"),
    [
        (chat("x", reason="content_filter"), Outcome.REFUSED, "filtered"),
        (chat("x", reason="abort"), Outcome.ENGINE_ERROR, r"ended the request \(abort\)"),
        ({"choices": []}, Outcome.ENGINE_ERROR, "cannot be read"),
        ({"object": "error"}, Outcome.ENGINE_ERROR, "cannot be read"),
        ({"choices": [{"finish_reason": "stop"}]}, Outcome.ENGINE_ERROR, "cannot be read"),
        (
            {"choices": [{"message": {"content": None, "refusal": "I won't"}}]},
            Outcome.REFUSED,
            "I won't",
        ),
    ],
)
def test_what_is_no_answer(body: dict[str, Any], outcome: Outcome, error: str) -> None:
    with pytest.raises(RowError, match=error) as told:
        generation_of(body, Sampling(4))
    assert told.value.outcome is outcome


def scored(listed: dict[str, float], *, is_raw: bool = False) -> tuple[float, ...]:
    entries = [{"token": token, "logprob": p} for token, p in listed.items()]
    content = [{"token": next(iter(listed)), "top_logprobs": entries}]
    body = chat("Yes", reason="length", logprobs={"content": content})
    if is_raw:
        choice = {"text": "Yes", "logprobs": {"top_logprobs": [listed]}}
        body = {"choices": [choice]}
    return generation_of(body, SCORED, continues_text=is_raw).log_probabilities


def test_listed_words_are_exact() -> None:
    assert scored({"Yes": -0.2, "No": -1.7, "yes": -5.0}) == (-0.2, -1.7)
    assert scored({"Yes": -9.0, "No": -0.1}) == (-9.0, -0.1)


def test_raw_text_is_continued_with_a_space() -> None:
    assert scored({" No": -0.2, " Yes": -1.7, "Yes": -4.0}, is_raw=True) == (-1.7, -0.2)
    assert scored({"No": -0.2, "Yes": -1.7}, is_raw=True) == (-1.7, -0.2)
    with pytest.raises(RowError):  # of a chat it would be another token
        scored({" No": -0.2, " Yes": -1.7})


def test_a_missing_word_is_as_likely_as_the_least_of_the_list_where_that_is_nothing() -> None:
    found = scored({"Yes": -0.001, "Maybe": -7.5, "yes": -11.0})
    assert found == (-0.001, -11.0)
    assert 1 - probability(*found) < 1e-4


@pytest.mark.parametrize("listed", [{"Yes": -0.5, "Maybe": -1.5}, {"Perhaps": -0.5, "Maybe": -9.5}])
def test_a_missing_word_that_may_be_likely_fails_the_request(listed: dict[str, float]) -> None:
    with pytest.raises(RowError, match="is not among the 2 likeliest first tokens"):
        scored(listed)


def test_a_server_without_log_probabilities_is_told_apart() -> None:
    for logprobs in (None, {"content": None}):
        with pytest.raises(NoLogprobsError):
            generation_of(chat("Yes", logprobs=logprobs), SCORED)
    assert math.isfinite(scored({"Yes": -0.1, "No": -9999.0})[1])


@pytest.mark.parametrize("is_raw", [False, True])
def test_the_mean_log_probability_is_that_of_the_answers_tokens(is_raw: bool) -> None:
    chat = {"content": [{"logprob": -0.5, "token": "a"}, {"logprob": -0.1, "token": "b"}]}
    choice = {
        "index": 0,
        "finish_reason": "stop",
        **({"text": "ab"} if is_raw else {"message": {"content": "ab"}}),
        "logprobs": {"token_logprobs": [-0.5, -0.1]} if is_raw else chat,
    }
    measured = Sampling(9, mean_log_probability=True)
    found = generation_of({"choices": [choice]}, measured, continues_text=is_raw)
    assert found.mean_log_probability == pytest.approx(-0.3)
    assert (
        generation_of(
            {"choices": [choice]}, Sampling(9), continues_text=is_raw
        ).mean_log_probability
        is None
    )
    with pytest.raises(NoLogprobsError):
        generation_of({"choices": [{**choice, "logprobs": None}]}, measured, continues_text=is_raw)
