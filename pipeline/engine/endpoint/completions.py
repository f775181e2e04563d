"""From a server's answer to a `Generation`.

Decides which log-probabilities count: those of the first token that the server lists. It lists the
likeliest ones only. A word that is missing has at most the least probability in the list; that is
taken for it where it changes the probability by less than `NEGLIGIBLE`, and otherwise the request
fails.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import RowError, one_line
from pipeline.contract.record import Outcome
from pipeline.contract.task import Generation

if TYPE_CHECKING:
    from pipeline.contract.task import Sampling

NEGLIGIBLE = 1e-3
FINISHED = ("stop", "length", "repetition")
FILTERED = "content_filter"


class NoLogprobsError(Exception):
    """The server gives no log-probabilities at all."""


def generation_of(
    body: Mapping[str, Any], sampling: Sampling, *, continues_text: bool = False
) -> Generation:
    """The answer to a request.

    Args:
        body: The JSON of `/chat/completions` or, for raw text, of `/completions`.
        sampling: What was asked for.
        continues_text: Whether it is the second.

    Raises:
        RowError: The answer was filtered or cut short, its first token is none of the words, or
            the JSON is no answer.
        NoLogprobsError: Log-probabilities were asked for, and there are none.
    """
    try:
        choices = sorted(body["choices"], key=lambda choice: int(choice.get("index", 0)))
        first = choices[0]
        if first.get("finish_reason") == FILTERED:
            raise RowError(Outcome.REFUSED, "generate", "the server filtered the answer")
        reason = "stop" if sampling.score_tokens else str(first.get("finish_reason"))
        usage = body.get("usage") or {}
        tokens = [int(usage.get(f"{kind}_tokens") or 0) for kind in ("prompt", "completion")]
        texts = [_text(choice, continues_text=continues_text) for choice in choices]
        listed = _listed(first, continues_text=continues_text) if sampling.score_tokens else {}
        wants_mean = sampling.mean_log_probability
        mean = _mean(first, continues_text=continues_text) if wants_mean else None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _failure(f"the server's answer cannot be read: {one_line(error)}") from None
    if reason not in FINISHED:
        raise _failure(f"the server ended the request ({reason})")
    return Generation(
        text="" if sampling.score_tokens else texts[0],
        prompt_tokens=tokens[0],
        output_tokens=tokens[1],
        finish_reason=reason,
        others=tuple(texts[1:]),
        log_probabilities=_scores(sampling.score_tokens, listed, may_be_spaced=continues_text),
        mean_log_probability=mean,
    )


def _text(choice: Mapping[str, Any], *, continues_text: bool) -> str:
    if continues_text:
        return str(choice["text"])
    message = choice["message"]
    if message.get("content") is None and message.get("refusal"):
        raise RowError(Outcome.REFUSED, "generate", f"the server says: {message['refusal']}")
    return str(message.get("content") or "")


def _listed(choice: Mapping[str, Any], *, continues_text: bool) -> dict[str, float]:
    """The log-probabilities of the likeliest first tokens, by their texts."""
    logprobs = choice.get("logprobs")
    if not logprobs:
        raise NoLogprobsError
    if continues_text:
        return {str(text): float(value) for text, value in logprobs["top_logprobs"][0].items()}
    if logprobs.get("content") is None:
        raise NoLogprobsError
    found: dict[str, float] = {}
    for entry in logprobs["content"][0]["top_logprobs"]:
        text, value = str(entry["token"]), float(entry["logprob"])
        found[text] = max(value, found.get(text, -math.inf))  # two tokens may have one text
    return found


def _mean(choice: Mapping[str, Any], *, continues_text: bool) -> float | None:
    """The mean log-probability of an answer's tokens; None where it has none."""
    logprobs = choice.get("logprobs") or {}
    found = logprobs.get("token_logprobs" if continues_text else "content")
    if found is None:
        raise NoLogprobsError
    values = [float(each if continues_text else each["logprob"]) for each in found]
    return sum(values) / len(values) if values else None


def _scores(
    words: Sequence[str], listed: Mapping[str, float], *, may_be_spaced: bool
) -> tuple[float, ...]:
    if not words:
        return ()
    found = [_score(word, listed, may_be_spaced=may_be_spaced) for word in words]
    known = [value for value in found if value is not None]
    least = min(listed.values(), default=0.0)
    if len(known) < len(words) and (not known or math.exp(least - max(known)) > NEGLIGIBLE):
        missing = words[found.index(None)]
        likeliest = max(listed, key=lambda text: listed[text], default="")
        raise _failure(
            f"'{missing}' is not among the {len(listed)} likeliest first tokens, which are all "
            f"that the server lists; the likeliest is {likeliest!r}"
        )
    return tuple(least if value is None else value for value in found)


def _score(word: str, listed: Mapping[str, float], *, may_be_spaced: bool) -> float | None:
    """Where raw text is continued, the token may have the space before the word."""
    forms = [f" {word}", word] if may_be_spaced else [word]
    return next((listed[form] for form in forms if form in listed), None)


def _failure(message: str) -> RowError:
    return RowError(Outcome.ENGINE_ERROR, "generate", message)
