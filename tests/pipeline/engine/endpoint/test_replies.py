"""What a status means, and what the server says that is wrong."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from pipeline.contract.record import Outcome
from pipeline.engine.endpoint.client import Reply
from pipeline.engine.endpoint.replies import (
    Verdict,
    message_of,
    retry_after,
    row_error,
    verdict_of,
)

NOT_FOUND = {"error": {"message": "The model `x` does not exist."}}


def reply(status: int, body: Any = None, **headers: str) -> Reply:
    return Reply(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, {}, Verdict.ANSWER),
        (200, None, Verdict.BROKEN),
        (200, {"error": {"code": 429}}, Verdict.BUSY),
        (200, {"error": "the backend is gone"}, Verdict.BROKEN),
        (429, None, Verdict.BUSY),
        (503, None, Verdict.BUSY),
        (404, NOT_FOUND, Verdict.RUN),
        (404, None, Verdict.AWAY),
        (401, None, Verdict.RUN),
        (402, None, Verdict.RUN),
        (307, None, Verdict.RUN),
        (400, None, Verdict.ROW),
        (413, None, Verdict.ROW),
        (422, None, Verdict.ROW),
        (500, None, Verdict.BROKEN),
        (502, None, Verdict.BROKEN),
        (504, None, Verdict.BROKEN),
        (408, None, Verdict.BROKEN),
        (200, {"choices": [], "error": None}, Verdict.ANSWER),
        (200, {"error": {"code": 1301, "message": "busy"}}, Verdict.BROKEN),
        (200, {"choices": [{"finish_reason": "abort"}]}, Verdict.BROKEN),
        (200, {"choices": [{"finish_reason": "stop"}, {"finish_reason": "stop"}]}, Verdict.ANSWER),
    ],
)
def test_what_a_reply_means(status: int, body: Any, verdict: Verdict) -> None:
    for has_answered in (False, True):
        assert verdict_of(reply(status, body), has_answered=has_answered) is verdict


def test_forbidden_is_the_keys_fault_until_the_server_has_answered() -> None:
    assert verdict_of(reply(403), has_answered=False) is Verdict.RUN
    assert verdict_of(reply(403), has_answered=True) is Verdict.ROW
    assert row_error(reply(403), "flagged").outcome is Outcome.REFUSED


LONG = (
    "This model's maximum context length is 2048 tokens. However, your prompt contains 4000 input "
    "tokens, which exceeds this limit even without any output tokens."
)


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        (400, {"message": LONG}, Outcome.TOO_LONG),
        (400, {"message": "no", "code": "context_length_exceeded"}, Outcome.TOO_LONG),
        (400, {"message": "the request exceeds the available context size"}, Outcome.TOO_LONG),
        (413, {}, Outcome.TOO_LONG),
        (400, {"message": "no", "code": "content_filter"}, Outcome.REFUSED),
        (400, {"message": "temperature must be below 2"}, Outcome.ENGINE_ERROR),
        (422, {"message": "it is too short"}, Outcome.ENGINE_ERROR),
    ],
)
def test_a_refused_request_is_an_outcome_of_its_row(
    status: int, error: dict[str, Any], outcome: Outcome
) -> None:
    refused = reply(status, {"error": error})
    found = row_error(refused, message_of(refused))
    assert found.outcome is outcome
    assert str(found).startswith(f"generate: the server refuses it ({status}): ")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "it\nis  wrong", "code": 400}}, "it is wrong"),
        ({"error": "Unauthorized"}, "Unauthorized"),
        ({"message": "older vLLM"}, "older vLLM"),
        ({"detail": "Not Found"}, "Not Found"),
        (None, "status 400"),
        ([], "status 400"),
        ({"error": "caf\ud83d: https://h/x?key=1"}, "caf?: https://h/x"),
        ({"error": {"message": "x" * 999}}, "x" * 299 + "…"),
    ],
)
def test_what_the_server_says(body: Any, message: str) -> None:
    assert message_of(reply(400, body)) == message


def test_how_long_to_wait() -> None:
    assert retry_after(reply(429, retry_after="7")) == 7.0
    assert retry_after(reply(429, retry_after="1.5")) == 1.5
    later = retry_after(reply(429, retry_after=formatdate(time.time() + 60, usegmt=True)))
    assert later is not None
    assert 55 < later <= 60
    assert retry_after(reply(429, retry_after=formatdate(0, usegmt=True))) == 0.0
    assert retry_after(reply(429, retry_after="soon")) is None
    assert retry_after(reply(429)) is None
