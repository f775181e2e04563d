"""Decides how a request's `Sampling` becomes vLLM's parameters; imports vLLM when it does so."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.contract.task import Sampling
    from pipeline.engine.interface import Rendered

SUM_ALONE = {"sum_of_logprobs": True}
"""Asks our scheduler for the sum of an answer's log-probabilities (`scheduling.final_outputs`)."""
LOOP_TOKENS = 12
"""Most tokens of a text whose repetitions are looked for."""
LOOP_COUNT = 24
"""Repetitions that end an answer. vLLM looks for them after every token, which costs a microsecond
for each length that it tries, and only once an answer is long enough."""


def seed_of(sampling: Sampling, key: str) -> int | None:
    """The seed of a request, the same whenever it is computed; None where nothing is drawn.

    Args:
        sampling: How the answer is sampled.
        key: Names the request.
    """
    if sampling.score_tokens or sampling.temperature <= 0:
        return None
    return zlib.crc32(f"{key}-{sampling.seed}".encode())


def _scoring(token_ids: Sequence[int]) -> Any:
    """Parameters that ask for the log-probabilities of these as the first token, and no more.

    Never in one batch with requests that use `logprobs=k`: those would get -inf (vLLM 0.32, pull
    request 51789).
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprob_token_ids=[*token_ids],
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def sampling_params(rendered: Rendered, key: str) -> Any:
    """vLLM's `SamplingParams` of a request, for vLLM to keep: nobody else has this object.

    Args:
        rendered: The request.
        key: Names the request; also seeds a sampled answer.
    """
    from vllm.sampling_params import (
        RepetitionDetectionParams,
        RequestOutputKind,
        SamplingParams,
        StructuredOutputsParams,
    )

    if rendered.scored_token_ids:
        return _scoring(rendered.scored_token_ids)
    sampling = rendered.sampling
    schema = sampling.json_schema
    is_sampled = sampling.temperature > 0
    loops = RepetitionDetectionParams(max_pattern_size=LOOP_TOKENS, min_count=LOOP_COUNT)
    return SamplingParams(
        n=sampling.n,
        stop=[*sampling.stop],
        detokenize=bool(sampling.stop),  # see `detokenizer`
        stop_token_ids=[*rendered.stop_token_ids],
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p if is_sampled else 1.0,
        top_k=sampling.top_k if is_sampled else 0,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        seed=seed_of(sampling, key),
        structured_outputs=StructuredOutputsParams(json=schema) if schema else None,
        repetition_detection=loops if sampling.ends_loops else None,
        logprobs=0 if sampling.mean_log_probability else None,  # of the sampled token alone
        extra_args=SUM_ALONE if sampling.mean_log_probability else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )
