"""A real engine's answers are the same, whether vLLM's scheduler plans its steps or ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from vllm import LLM, SamplingParams
from vllm.outputs import RequestOutput
from vllm.sampling_params import (
    RepetitionDetectionParams,
    RequestOutputKind,
    StructuredOutputsParams,
)

from gemma3_model.scheduling import PARTS
from gemma3_model.scheduling.final_outputs import SUM_OF_LOGPROBS
from tests.gemma3_model.checkpoints import DEMO
from tests.gemma3_model.parity import engine
from tests.gemma3_model.scheduling.steps import reschedule
from tests.speed.measures import CAPTION, image

TEXTS = ("The weather is nice today.", "A red circle", "Ein", "1, 2, 3, 1, 2, 3, 1, 2, 3,")
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
LOOPS = RepetitionDetectionParams(max_pattern_size=6, min_count=3)
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 40}


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with engine(DEMO, enable_prefix_caching=True, max_num_seqs=6) as made:
        yield made


def prompts(llm: LLM) -> list[dict[str, Any]]:
    tokenizer = llm.get_tokenizer()
    texts = [{"prompt_token_ids": tokenizer.encode(text)} for text in TEXTS]
    caption = tokenizer.encode(CAPTION, add_special_tokens=False)
    images = [
        {"prompt_token_ids": caption, "multi_modal_data": {"image": image(seed, 200, 150)}}
        for seed in range(3)
    ]
    return [*texts, *images]


def both(llm: LLM, params: SamplingParams) -> tuple[list[Any], list[Any]]:
    """All that the prompts' answers say, with vLLM's scheduler and with ours."""
    said = []
    for over in ((), PARTS):
        reschedule(llm.llm_engine, over)
        said.append([told(output) for output in llm.generate(prompts(llm), params, use_tqdm=False)])
    return said[0], said[1]


def told(output: RequestOutput) -> Any:
    return (
        output.prompt_token_ids,
        output.num_cached_tokens,
        output.finished,
        [
            (
                answer.index,
                answer.text,
                [*answer.token_ids],
                answer.finish_reason,
                answer.stop_reason,
                answer.cumulative_logprob,
                answer.logprobs,
                answer.weight_versions,
            )
            for answer in output.outputs
        ],
    )


def test_greedy_answers(llm: LLM) -> None:
    theirs, ours = both(llm, SamplingParams(**GREEDY))
    assert ours == theirs
    assert {answer[3] for *_, answers in theirs for answer in answers} == {"stop"}


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 1.0, "max_tokens": 20, "n": 3, "seed": 5},
        {**GREEDY, "max_tokens": 1},
        {**GREEDY, "min_tokens": 30},
        {**GREEDY, "skip_special_tokens": False, "ignore_eos": True},
        {**GREEDY, "max_tokens": 5, "logprobs": 3},
        {**GREEDY, "max_tokens": 1, "logprob_token_ids": [300, 301]},
        {**GREEDY, "max_tokens": 3, "prompt_logprobs": 2},
        {**GREEDY, "structured_outputs": StructuredOutputsParams(json=SCHEMA)},
    ],
    ids="-".join,
)
def test_answers_to_all_that_can_be_asked(llm: LLM, params: dict[str, Any]) -> None:
    theirs, ours = both(llm, SamplingParams(**params))
    assert ours == theirs


def test_answers_that_end_at_texts_and_at_tokens(llm: LLM) -> None:
    theirs, _ = both(llm, SamplingParams(**GREEDY, ignore_eos=True))
    answers = [answer for *_, (answer,) in theirs]
    texts = sorted({text[3:7] for _, text, *_ in answers if len(text) > 7})
    for stop in (
        {"stop": texts},
        {"stop": texts, "include_stop_str_in_output": True},
        {"stop_token_ids": sorted({tokens[4] for _, _, tokens, *_ in answers})},
    ):
        theirs, ours = both(llm, SamplingParams(**GREEDY, **stop))
        assert ours == theirs
        assert any(answer[4] is not None for *_, (answer,) in theirs), "nothing stopped"


def test_answers_that_repeat_themselves(llm: LLM) -> None:
    params = SamplingParams(**{**GREEDY, "max_tokens": 120}, ignore_eos=True)
    params.repetition_detection = LOOPS
    theirs, ours = both(llm, params)
    assert ours == theirs
    assert "repetition" in {answer[3] for *_, (answer,) in theirs}


@pytest.mark.parametrize("kind", RequestOutputKind)
def test_others_are_answered_beside_one_that_is_aborted(llm: LLM, kind: RequestOutputKind) -> None:
    said = []
    for over in ((), PARTS):
        reschedule(llm.llm_engine, over)
        for number, prompt in enumerate(prompts(llm)):
            params = SamplingParams(**GREEDY, ignore_eos=True, output_kind=kind)
            llm.llm_engine.add_request(str(number), prompt, params)
        outputs = []
        for step in range(400):
            if step == 9:
                llm.llm_engine.abort_request(["2"])
            outputs += [told(output) for output in llm.llm_engine.step()]
            if not llm.llm_engine.has_unfinished_requests():
                break
        said.append(outputs)
    assert said[1] == said[0]
    assert said[0]


@pytest.mark.parametrize("stop", [None, ["@@"]])
def test_the_sum_of_an_answers_log_probabilities_is_the_same(
    llm: LLM, stop: list[str] | None
) -> None:
    """With a stop every token is seen, and vLLM sums up itself."""
    sums = []
    for over, extra in (((), None), (PARTS, {SUM_OF_LOGPROBS: True})):
        reschedule(llm.llm_engine, over)
        params = SamplingParams(**GREEDY, logprobs=0, stop=stop, extra_args=extra)
        outputs = llm.generate(prompts(llm), params, use_tqdm=False)
        sums.append([output.outputs[0].cumulative_logprob for output in outputs])
    assert sums[1] == pytest.approx(sums[0], abs=1e-4)
    assert len({*sums[0]}) > 1
