"""Asked at borders of blocks only, vLLM's KV cache does exactly what it does when asked always."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.core.kv_cache_coordinator import KVCacheCoordinator
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.request import Request

from gemma3_model.scheduling.block_borders import BlockBorders, BorderManager
from tests.gemma3_model.scheduling.steps import WINDOW, Over, Seen, build, configure, made, run

GROUPS = (None, WINDOW, WINDOW)
ANSWER = 45
LONGEST = 90
"""Prompts of several steps and windows."""
REQUESTS = 60
EARLIER = 7


def answers() -> dict[str, list[int]]:
    chance = random.Random(1)
    return {
        f"{number}": [chance.randrange(6, 90) for _ in range(ANSWER)] for number in range(REQUESTS)
    }


def requests() -> Iterator[Request]:
    """Of all lengths; some begin as another prompt, some as one with a part of its answer."""
    chance = random.Random(0)
    prompts: list[list[int]] = []
    for number in range(REQUESTS):
        begin: list[int] = []
        if number % 3 == 1 and number > EARLIER:
            begin = prompts[number - EARLIER] + answers()[str(number - EARLIER)][:20]
        elif number % 3 == 2:
            begin = prompts[-1][: LONGEST // 2]
        count = chance.randrange(1, max(2, LONGEST - len(begin)))
        prompts.append(begin + [chance.randrange(6, 90) for _ in range(count)])
        params = SamplingParams(max_tokens=chance.randrange(1, ANSWER), ignore_eos=True)
        yield made(str(number), prompts[-1], params)


def seen(config: VllmConfig, over: Over) -> tuple[Seen, int, list[object]]:
    """All steps; how often requests were preempted; which blocks are free and cached by step."""
    scheduler = build(config, over, windows=GROUPS)
    manager = scheduler.kv_cache_manager
    everyone = list(requests())
    blocks: list[object] = []

    def look(_: int) -> None:
        cached = set(manager.block_pool.cached_block_hash_to_block._cache)
        blocks.append((manager.block_pool.get_num_free_blocks(), cached))

    steps = run(scheduler, everyone, answers(), each_step=look)
    assert not getattr(manager, "_positions", {}), "one that ended is remembered"
    return steps, sum(request.num_preemptions for request in everyone), blocks


@pytest.mark.parametrize("runs_ahead", [False, True])
@pytest.mark.parametrize("blocks", [4096, 60])
def test_every_step_has_the_same_blocks(checkpoint: Path, runs_ahead: bool, blocks: int) -> None:
    """With so few that requests are preempted, too."""
    config = configure(checkpoint, runs_ahead=runs_ahead, blocks=blocks)
    theirs, preempted, their_blocks = seen(config, ())
    ours, _, our_blocks = seen(config, (BlockBorders,))
    assert ours.steps == theirs.steps
    assert ours.ends() == theirs.ends()
    assert our_blocks == their_blocks
    assert bool(preempted) == (blocks == 60)


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_most_steps_ask_nothing(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, runs_ahead: bool
) -> None:
    asked = 0
    real = KVCacheCoordinator.cache_blocks

    def count(*args: object) -> None:
        nonlocal asked
        asked += 1
        real(*args)

    monkeypatch.setattr(KVCacheCoordinator, "cache_blocks", count)
    config = configure(checkpoint, runs_ahead=runs_ahead)
    questions = []
    for over in ((), (BlockBorders,)):
        asked = 0
        seen(config, over)
        questions.append(asked)
    assert questions[1] < questions[0] / 2  # blocks are of 8 here


def test_it_is_left_where_borders_do_not_say_all(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(checkpoint, runs_ahead=False)

    def manager(**groups: Any) -> type[KVCacheManager]:
        return type(build(config, (BlockBorders,), **groups).kv_cache_manager)

    assert manager(windows=GROUPS) is BorderManager
    assert manager(windows=(None, WINDOW), block_sizes=(8, 16)) is KVCacheManager
    assert manager(windows=(None, WINDOW + 1)) is KVCacheManager
    monkeypatch.setattr(VllmConfig, "num_speculative_tokens", 2)
    assert manager(windows=GROUPS) is KVCacheManager
