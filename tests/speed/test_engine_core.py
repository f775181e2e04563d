"""The measurement of the engine core measures, and what is over its scheduler changes no answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gemma3_model.scheduling.steps import reschedule
from tests.speed.engine_core import PARTS, VARIANTS, Work, measure, timed_engine, write_checkpoint

WORK = Work(rows=5, tokens_in=50, tokens_out=40)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("timed"))


@pytest.mark.parametrize(("ahead", "one_group"), [(False, False), (True, False), (True, True)])
def test_each_part_is_counted(checkpoint: Path, ahead: bool, one_group: bool) -> None:
    with timed_engine(
        checkpoint, rows=4, ahead=ahead, disable_hybrid_kv_cache_manager=one_group
    ) as engine:
        costs = {}
        for name, over in VARIANTS.items():
            scheduler = reschedule(engine, over)
            costs[name] = measure(engine, WORK)
        assert len(scheduler.kv_cache_config.kv_cache_groups) == (1 if one_group else 7)
    theirs = costs["vLLM's"]
    assert {len(tokens) for _, tokens, _ in theirs.answers.values()} == {WORK.tokens_out}
    assert all(text for text, *_ in theirs.answers.values())
    for name, cost in costs.items():
        assert cost.answers == theirs.answers, name
        assert cost.steps == theirs.steps, name
        assert all(cost.seconds[part] > 0 for part in PARTS), name
    assert theirs.outputs == WORK.rows * WORK.tokens_out
    assert costs["ours"].outputs == WORK.rows
