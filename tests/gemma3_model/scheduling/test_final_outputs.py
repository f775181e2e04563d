"""Which outputs leave a scheduler: of a bulk request one, of all others what vLLM sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from gemma3_model.scheduling.final_outputs import SUM_OF_LOGPROBS, FinalOutputs
from tests.gemma3_model.scheduling.steps import build, configure, made, run

ANSWER = [*range(10, 22)]
PROMPT = [*range(30, 50)]
SUM = {SUM_OF_LOGPROBS: True}


def request(name: str, **params: Any) -> Request:
    own = {"max_tokens": 12, "output_kind": RequestOutputKind.FINAL_ONLY, **params}
    return made(name, PROMPT, SamplingParams(**own))


def both(checkpoint: Path, *, runs_ahead: bool = False, **build_settings: Any) -> list[Scheduler]:
    config = configure(checkpoint, runs_ahead=runs_ahead)
    return [build(config, over, **build_settings) for over in ((), (FinalOutputs,))]


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_a_bulk_request_has_one_output_with_all_of_its_tokens(
    checkpoint: Path, runs_ahead: bool
) -> None:
    theirs, ours = (
        run(
            scheduler,
            [request("a"), request("b", max_tokens=5), request("c", stop_token_ids=[15])],
            dict.fromkeys("abc", ANSWER),
        )
        for scheduler in both(checkpoint, runs_ahead=runs_ahead)
    )
    assert ours.ends() == theirs.ends()
    assert ours.ends()["c"] == (ANSWER[:6], "stop", 15)
    assert (len(theirs.sent), len(ours.sent)) == (12 + 5 + 6, 3)
    assert (theirs.sending_steps, ours.sending_steps) == (12, 3)
    cached = [output.prefill_stats.num_prompt_tokens for output in ours.sent]
    assert cached == [len(PROMPT)] * 3


@pytest.mark.parametrize(
    "params",
    [
        {"output_kind": RequestOutputKind.DELTA},
        {"output_kind": RequestOutputKind.CUMULATIVE},
        {"stop": ["x"], "detokenize": True},
        {"logprobs": 1},
        {"logprobs": 0},
        {"logprobs": 1, "extra_args": SUM},
    ],
)
def test_who_must_see_every_token_does(checkpoint: Path, params: dict[str, Any]) -> None:
    _, scheduler = both(checkpoint)
    sent = run(scheduler, [request("a", **params)], {"a": ANSWER}).sent
    assert [output.new_token_ids for output in sent] == [[token] for token in ANSWER]


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_of_log_probabilities_the_sum_leaves_if_it_alone_counts(
    checkpoint: Path, runs_ahead: bool
) -> None:
    logprobs = {"a": [-0.5 * n for n in range(12)], "b": [-0.25] * 12}
    theirs, ours = (
        run(
            scheduler,
            [request("a", logprobs=0, extra_args=SUM), request("b", max_tokens=5, logprobs=0)],
            dict.fromkeys("ab", ANSWER),
            logprobs=logprobs,
        )
        for scheduler in both(checkpoint, runs_ahead=runs_ahead)
    )
    assert ours.ends() == theirs.ends()
    (one,) = (output for output in ours.sent if output.request_id == "a")
    assert one.new_logprobs.logprobs.tolist() == [[sum(logprobs["a"])]]
    singly = [output for output in ours.sent if output.request_id == "b"]
    assert [output.new_logprobs.logprobs.tolist() for output in singly] == [[[-0.25]]] * 5


def test_an_engine_with_statistics_sends_every_token(checkpoint: Path) -> None:
    _, scheduler = both(checkpoint, log_stats=True)
    sent = run(scheduler, [request("a")], {"a": ANSWER}).sent
    assert [output.new_token_ids for output in sent] == [[token] for token in ANSWER]


def test_an_aborted_request_is_forgotten(checkpoint: Path) -> None:
    _, scheduler = both(checkpoint)

    def abort(step: int) -> None:
        if step == 6:
            scheduler.finish_requests("a", RequestStatus.FINISHED_ABORTED)

    seen = run(
        scheduler,
        [request("a", logprobs=0, extra_args=SUM), request("b")],
        dict.fromkeys("ab", ANSWER),
        each_step=abort,
        logprobs=dict.fromkeys("ab", [-1.0] * 12),
    )
    assert [output.request_id for output in seen.sent] == ["b"]
    assert scheduler._kept == scheduler._prefills == scheduler._sums == {}


def test_a_request_that_fails_is_told_with_what_it_had(checkpoint: Path) -> None:
    """vLLM ends one so between two steps' outputs, as where a grammar cannot be compiled."""
    _, scheduler = both(checkpoint)

    def fail(step: int) -> None:
        if step == 6:
            scheduler.encoder_cache_mismatch_reqs.add("a")

    seen = run(scheduler, [request("a"), request("b")], dict.fromkeys("ab", ANSWER), each_step=fail)
    tokens, reason, _ = seen.ends()["a"]
    assert reason == "error"
    assert tokens == ANSWER[: len(tokens)]
    assert len(tokens) > 3
    assert scheduler._kept == {}
