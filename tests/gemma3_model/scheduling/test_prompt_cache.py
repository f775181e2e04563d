"""The prefix cache keeps prompts and no answers, and nothing else of a step is another."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from vllm import SamplingParams
from vllm.v1.core.kv_cache_utils import get_block_hash
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

from gemma3_model.scheduling import PARTS
from gemma3_model.scheduling.prompt_cache import PromptCache
from tests.gemma3_model.scheduling.steps import (
    BLOCK_SIZE,
    WINDOW,
    Over,
    Seen,
    build,
    configure,
    made,
    run,
)

GROUPS = (None, WINDOW, WINDOW)
ANSWER = 45
PROMPT = 60
REQUESTS = 40
FEW_BLOCKS = 60
"""Requests are preempted then."""


def ids(seed: str, count: int) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(6, 90) for _ in range(count)]


ANSWERS = {f"{number}": ids(f"answer {number}", ANSWER) for number in range(REQUESTS)}


def requests() -> Iterator[Request]:
    """Every second one begins as the one before."""
    for number in range(REQUESTS):
        begin = ids(f"begin {number // 2}", PROMPT // 2)
        own = ids(f"prompt {number}", random.Random(number).randrange(1, PROMPT // 2))
        params = SamplingParams(max_tokens=ANSWER - number % 7, ignore_eos=True)
        yield made(f"{number}", begin + own, params)


def seen(
    checkpoint: Path, over: Over, *, runs_ahead: bool, blocks: int = 4096
) -> tuple[Seen, Scheduler, list[Request]]:
    config = configure(checkpoint, runs_ahead=runs_ahead, blocks=blocks)
    scheduler = build(config, over, windows=GROUPS)
    everyone = list(requests())
    return run(scheduler, everyone, ANSWERS), scheduler, everyone


def plans(found: Seen) -> list[object]:
    """Each step, with the number of blocks that each request gets.

    Not which blocks: those of an answer that ended are taken before others, as they are not kept.
    """

    def counts(blocks: Sequence[Sequence[int]] | None) -> list[int] | None:
        return None if blocks is None else [*map(len, blocks)]

    return [
        (tokens, [(n, counts(b), at) for n, b, at in new], [(n, counts(b), at) for n, b, at in old])
        for tokens, new, old, *_ in found.steps  # type: ignore[misc]
    ]


def kept(scheduler: Scheduler) -> set[bytes]:
    cached = scheduler.kv_cache_manager.block_pool.cached_block_hash_to_block._cache
    return {get_block_hash(key) for key in cached}


@pytest.mark.parametrize("runs_ahead", [False, True])
@pytest.mark.parametrize("over", [(PromptCache,), PARTS])
def test_prompts_are_kept_and_no_answer_is(checkpoint: Path, runs_ahead: bool, over: Over) -> None:
    theirs, their_scheduler, _ = seen(checkpoint, (), runs_ahead=runs_ahead)
    ours, our_scheduler, _ = seen(checkpoint, over, runs_ahead=runs_ahead)
    if over == (PromptCache,):  # the other parts have their own tests for it
        assert plans(ours) == plans(theirs)
    assert ours.ends() == theirs.ends()
    prompts = {part for request in requests() for part in request.block_hashes}
    assert len(prompts) > REQUESTS
    assert kept(our_scheduler) == prompts
    assert kept(their_scheduler) > prompts


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_a_request_that_begins_again_has_its_answer_so_far(
    checkpoint: Path, runs_ahead: bool
) -> None:
    theirs, _, _ = seen(checkpoint, (), runs_ahead=runs_ahead)
    ours, _, everyone = seen(checkpoint, PARTS, runs_ahead=runs_ahead, blocks=FEW_BLOCKS)
    assert ours.ends() == theirs.ends()
    again = [request for request in everyone if request.num_preemptions]
    assert again
    for request in again:  # hashed as a prompt
        assert len(request.block_hashes) == request.num_tokens // BLOCK_SIZE


def test_a_prompt_that_goes_on_after_an_answer_finds_the_prompt_before(checkpoint: Path) -> None:
    scheduler = build(configure(checkpoint, runs_ahead=False), PARTS, windows=GROUPS)
    first, more = ids("first", 4 * BLOCK_SIZE), ids("more", 5)
    answer = ANSWERS["0"][:20]
    params = SamplingParams(max_tokens=20, ignore_eos=True)
    run(scheduler, [made("0", first, params)], ANSWERS)
    found = run(scheduler, [made("1", first + answer + more, params)], ANSWERS)
    (_, [(_, _, computed)], *_) = found.steps[0]  # type: ignore[misc]
    assert computed == len(first)
