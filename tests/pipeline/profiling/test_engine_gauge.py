"""What is measured around an engine, on an event loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from pipeline.engine.interface import EngineStats
from pipeline.profiling.engine_gauge import EngineGauge
from pipeline.profiling.measures import EngineSlice, Measures, Span, unpacked

CARRIED = Measures(spans=(Span("read", 1.0, 2.0, 3),))


def gauge_of(**stats: int) -> EngineGauge:
    return EngineGauge(lambda: EngineStats(start={"weights": 2.0}, **stats), ready=7.0)


async def ask(gauge: EngineGauge, seconds: float) -> None:
    with gauge.request():
        await asyncio.sleep(seconds)


def test_requests_in_flight_are_counted_exactly() -> None:
    async def measured() -> Measures:
        gauge = gauge_of(running=3, waiting=2, steps=5, slots=4)
        block = gauge.block(CARRIED)
        await asyncio.gather(ask(gauge, 0.4), ask(gauge, 0.4), ask(gauge, 0.2))
        return block.finished(3, 100)

    found = unpacked([asyncio.run(measured()).packed()])
    assert [span.stage for span in found.spans] == ["read", "generate"]
    assert (found.spans[1].rows, found.spans[1].size) == (3, 100)
    (piece,) = found.slices
    length = piece.ended - piece.began
    assert 2 * length <= piece.in_flight + 0.1 <= 3 * length + 0.1
    assert piece.empty < 0.1
    assert (piece.slots, piece.steps) == (4, 0)
    assert piece.running == pytest.approx(3 * length)
    assert piece.waiting == pytest.approx(2 * length)
    moments = {moment.name: moment for moment in found.moments}
    assert {*moments} == {"engine_ready", "first_given", "first_answered"}
    assert (moments["engine_ready"].at, moments["engine_ready"].seconds) == (7.0, {"weights": 2.0})


def test_the_time_without_requests_and_to_the_next_one() -> None:
    async def measured() -> Measures:
        gauge = gauge_of()
        found = Measures()
        for _ in range(2):
            block = gauge.block(Measures())
            await ask(gauge, 0.2)
            found += block.finished(1)
            await asyncio.sleep(0.5)
        return found

    found = asyncio.run(measured())
    refills = [(piece.refills, piece.refill) for piece in found.slices if piece.refills]
    assert [count for count, _ in refills] == [1]
    assert refills[0][1] >= 0.5
    assert sum(piece.empty for piece in found.slices) >= 0.5
    assert len(found.moments) == 3  # each once


@pytest.mark.parametrize("is_blocked", [True, False])
def test_a_loop_that_is_blocked_is_busy(is_blocked: bool) -> None:
    async def measured() -> Measures:
        gauge = gauge_of()
        block = gauge.block(Measures())
        for _ in range(20):
            await asyncio.sleep(0 if is_blocked else 0.05)
            if is_blocked:
                time.sleep(0.1)
        return block.finished(1)

    pieces = asyncio.run(measured()).slices
    busy = sum(piece.busy for piece in pieces) / sum(p.ended - p.began for p in pieces)
    if is_blocked:
        assert busy > 0.85
        assert max(piece.worst_lag for piece in pieces) > 0.02
    else:
        assert busy < 0.85
    assert sum(piece.probes for piece in pieces) >= 5


def test_each_slice_is_told_at_once_with_what_changed() -> None:
    told: list[EngineSlice] = []
    tokens = iter(range(0, 10_000, 100))

    def stats() -> EngineStats:
        prompt_tokens = next(tokens)
        return EngineStats(prompt_tokens=prompt_tokens, cached_tokens=prompt_tokens // 4)

    async def measured() -> Measures:
        gauge = EngineGauge(stats, 7.0, lambda: 30, told.append)
        block = gauge.block(Measures())
        await asyncio.sleep(1.3)
        assert len(told) == 1  # no block has gone on
        return block.finished(1)

    pieces = asyncio.run(measured()).slices
    assert [*pieces] == told
    assert [(piece.prompt_tokens, piece.cached_tokens) for piece in pieces] == [(100, 25)] * 2
    assert sum(piece.queued for piece in pieces) == pytest.approx(30 * 1.3, rel=0.2)
