"""Looked for seldom, repetitions end an answer at the token where vLLM's own check ends it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from vllm import SamplingParams
from vllm.sampling_params import RepetitionDetectionParams
from vllm.v1.core.sched.utils import check_sequence_repetition

from gemma3_model.scheduling.loops import LoopCheck, Loops
from tests.gemma3_model.scheduling.steps import build, configure, made, run


def first_found(answer: Sequence[int], params: RepetitionDetectionParams) -> int | None:
    """After how many tokens vLLM finds a repetition."""
    ends = range(1, len(answer) + 1)
    return next((end for end in ends if check_sequence_repetition(answer[:end], params)), None)


def first_found_by_us(
    answer: Sequence[int], params: RepetitionDetectionParams
) -> tuple[int | None, int]:
    """The same by our check, and how often it looked."""
    check, looks = LoopCheck(params), 0
    for end in range(1, len(answer) + 1):
        if end >= check.next_look:
            looks += 1
            if check.finds(answer[:end]):
                return end, looks
    return None, looks


def answers() -> list[list[int]]:
    """Of few different tokens, so that much repeats; some end in a loop, some loops break off."""
    chance = random.Random(0)
    made = []
    for kinds in (1, 2, 3, 50):
        for _ in range(40):
            answer = [chance.randrange(kinds) for _ in range(chance.randrange(60))]
            for _ in range(chance.randrange(3)):
                pattern = [chance.randrange(kinds) for _ in range(chance.randrange(1, 9))]
                loop = pattern * chance.randrange(1, 12)
                answer += loop[: chance.randrange(len(loop) + 1)]
                answer += [chance.randrange(kinds) for _ in range(chance.randrange(4))]
            made.append(answer)
    return made


@pytest.mark.parametrize("size", [(0, 1), (1, 3), (2, 5), (0, 8)])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_it_finds_what_vllm_finds_at_the_same_token(size: tuple[int, int], count: int) -> None:
    params = RepetitionDetectionParams(
        min_pattern_size=size[0], max_pattern_size=size[1], min_count=count
    )
    found = [(first_found(each, params), first_found_by_us(each, params)[0]) for each in answers()]
    assert [ours for _, ours in found] == [theirs for theirs, _ in found]
    assert len({theirs for theirs, _ in found}) > 5


def test_it_looks_seldom_where_nothing_repeats() -> None:
    chance = random.Random(0)
    answer = [chance.randrange(1000) for _ in range(480)]
    params = RepetitionDetectionParams(max_pattern_size=12, min_count=24)
    assert first_found_by_us(answer, params) == (None, pytest.approx(480 / 23, abs=3))


LOOPING = {
    "from the start": [7] * 40,
    "later": [*range(6, 20), *[30, 31, 32] * 9],
    "never": [*range(6, 46)],
    "not before its least tokens": [7] * 40,
}
DETECTION = RepetitionDetectionParams(max_pattern_size=4, min_count=5)


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_a_scheduler_ends_answers_as_vllm_does(checkpoint: Path, runs_ahead: bool) -> None:
    config = configure(checkpoint, runs_ahead=runs_ahead)
    ends = []
    for over in ((), (Loops,)):
        scheduler = build(config, over)
        requests = [
            made(
                name,
                [5, 6],
                SamplingParams(
                    max_tokens=40,
                    min_tokens=30 if "least" in name else 0,
                    ignore_eos=True,
                    repetition_detection=DETECTION,
                ),
            )
            for name in LOOPING
        ]
        ends.append(run(scheduler, requests, LOOPING).ends())
    assert ends[1] == ends[0]
    lengths = [len(tokens) for tokens, *_ in ends[0].values()]
    assert sorted(lengths) == [5, 14 + 15, 30, 40]
    assert scheduler._loop_checks == {}


def test_a_caller_s_parameters_stay_as_they_are(checkpoint: Path) -> None:
    scheduler = build(configure(checkpoint, runs_ahead=False), (Loops,))
    params = SamplingParams(max_tokens=9, repetition_detection=DETECTION)
    for name in "ab":
        scheduler.add_request(made(name, [5], params))
    assert params.repetition_detection == DETECTION
    assert len(scheduler._loop_checks) == 2
