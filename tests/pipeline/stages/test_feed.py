"""Which rows the engine has: as many as it can run, in their order, whatever block they are in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.contract.task import Generation, Sampling
from pipeline.engine.interface import EngineStats, Rendered
from pipeline.stages.blocks import Item, pack
from pipeline.stages.feed import MEASURED, Feed, Room
from pipeline.stages.rendered_row import RenderedRow
from tests.pipeline.model_engine import Device, Steps

REQUEST = Rendered(("prompt", []), 10, Sampling(4))
FAILED = RowError(Outcome.DECODE_ERROR, "decode", "it was broken")


def rows(start: int, count: int, requests: int = 1) -> list[Item]:
    row = RenderedRow((REQUEST,) * requests, None)
    return [Item("u", position, payload=row) for position in range(start, start + count)]


def room(slots: int, kv_tokens: int = 0) -> Room:
    return Room(lambda: EngineStats(slots=slots, kv_tokens=kv_tokens), 7)


@dataclass
class Engine:
    """Answers rows when it is told to."""

    open: dict[int, asyncio.Future[None]] = field(default_factory=dict)
    seen: list[int] = field(default_factory=list)

    async def answer(self, item: Item) -> Item:
        self.seen.append(item.position)
        self.open[item.position] = asyncio.get_running_loop().create_future()
        await self.open[item.position]
        return item.carrying("answered")

    async def end(self, *positions: int, error: Exception | None = None) -> None:
        for position in positions:
            answer = self.open.pop(position)
            if error is None:
                answer.set_result(None)
            else:
                answer.set_exception(error)
        await settled()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(test: Callable[[Engine], Awaitable[None]]) -> None:
    async def with_engine() -> None:
        await test(Engine())

    asyncio.run(asyncio.wait_for(with_engine(), 60))


class Whole(Room):
    """Without any to spare."""

    def __init__(self, size: int) -> None:
        super().__init__(EngineStats, size)
        self.now = size

    @property
    def size(self) -> int:
        return self.now


def test_a_row_enters_when_another_leaves_across_blocks_in_their_order() -> None:
    async def test(engine: Engine) -> None:
        feed = Feed(engine.answer, Whole(4))
        blocks = [asyncio.create_task(feed.answers(pack(rows(3 * n, 3)))) for n in range(3)]
        await settled()
        assert (engine.seen, feed.waiting) == ([0, 1, 2, 3], 5)
        await engine.end(2)
        assert engine.seen == [0, 1, 2, 3, 4]
        assert not any(block.done() for block in blocks)
        await engine.end(0, 1)
        assert [block.done() for block in blocks] == [True, False, False]
        assert [item.position for item in blocks[0].result()] == [0, 1, 2]
        assert engine.seen == [0, 1, 2, 3, 4, 5, 6]
        await engine.end(5, 6)
        await engine.end(7, 8, 4, 3)
        assert [item.position for item in (await blocks[1])] == [3, 4, 5]
        assert [item.payload for item in (await blocks[2])] == ["answered"] * 3
        assert feed.waiting == 0

    run(test)


def test_a_row_counts_with_all_its_requests() -> None:
    async def test(engine: Engine) -> None:
        feed = Feed(engine.answer, Whole(4))
        block = asyncio.create_task(feed.answers(pack(rows(0, 4, requests=3))))
        await settled()
        assert engine.seen == [0, 1]  # a row enters whole
        await engine.end(0)
        assert engine.seen == [0, 1, 2]
        await engine.end(1, 2)
        await engine.end(3)
        assert len(await block) == 4

    run(test)


def test_settled_rows_and_empty_blocks_pass() -> None:
    async def test(engine: Engine) -> None:
        feed = Feed(engine.answer, Whole(1))
        items = [Item("u", 7).failed(FAILED), *rows(8, 1), Item("u", 9, same_as=8)]
        block = asyncio.create_task(feed.answers(pack(items)))
        empty = asyncio.create_task(feed.answers(pack([])))
        only_settled = asyncio.create_task(feed.answers(pack([Item("u", 1, same_as=0)])))
        await settled()
        assert await empty == []
        await engine.end(8)
        assert [item.position for item in await block] == [7, 8, 9]
        assert await only_settled == [Item("u", 1, same_as=0)]

    run(test)


def test_after_the_end_is_asked_no_row_enters_and_blocks_give_what_had_entered() -> None:
    async def test(engine: Engine) -> None:
        feed = Feed(engine.answer, Whole(4))
        blocks = [asyncio.create_task(feed.answers(pack(rows(3 * n, 3)))) for n in range(3)]
        await settled()
        feed.close()
        await settled()
        assert await blocks[2] == []
        await engine.end(3)
        assert [item.position for item in await blocks[1]] == [3]
        await engine.end(0, 1, 2)
        assert len(await blocks[0]) == 3
        assert engine.seen == [0, 1, 2, 3]

    run(test)


def test_an_error_is_its_blocks_and_the_others_go_on() -> None:
    async def test(engine: Engine) -> None:
        feed = Feed(engine.answer, Whole(2))
        first = asyncio.create_task(feed.answers(pack(rows(0, 3))))
        second = asyncio.create_task(feed.answers(pack(rows(3, 2))))
        await settled()
        await engine.end(0, error=RuntimeError("gone"))
        with pytest.raises(RuntimeError, match="gone"):
            await first
        assert engine.seen == [0, 1, 3]  # row 2 is nobody's any more
        await engine.end(1, 3)
        await engine.end(4)
        assert len(await second) == 2

    run(test)


def test_the_room_is_the_engines_slots_and_some_to_spare() -> None:
    assert room(256).size == 256 + 64
    assert room(4).size == 4 + 8
    assert room(0).size == 7 + 8  # it does not say


def test_the_room_follows_the_lengths_that_were_measured() -> None:
    def answers(count: int, prompt: int, output: int) -> list[Generation]:
        return [Generation("", prompt, output, "stop")] * count

    measured = room(256, kv_tokens=40_000)
    assert measured.size == 320
    measured.note(answers(100, 300, 100))
    assert measured.size == 100
    measured.note([Generation("", 10**6, 0, "", failure=FAILED)])
    assert measured.size == 100
    measured.note(answers(20 * MEASURED, 30, 70))
    assert 300 < measured.size <= 320  # rows of another file are shorter
    measured.note(answers(20 * MEASURED, 50_000, 0))
    assert measured.size == 1


LAG = 2
"""Steps that the engine takes until the actor has its answers and it has what the actor sent."""


@pytest.mark.parametrize(("spread", "most"), [(0.0, 0.03), (0.5, 0.0)])
def test_the_engine_is_full_as_long_as_rows_wait(spread: float, most: float) -> None:
    """Rows that end together are the hardest; no slot is free for long then, else none ever."""
    device = Device(slots=40, tokens=100, spread=spread)
    steps, answers = Steps(device), dict[int, asyncio.Future[None]]()

    async def answer(item: Item) -> Item:
        answers[item.position] = asyncio.get_running_loop().create_future()
        steps.add(item.position, device.length(str(item.position)), steps.free)
        await answers[item.position]
        return item.carrying("answered")

    async def test(_: Engine) -> None:
        feed = Feed(answer, room(device.slots))
        blocks = [asyncio.create_task(feed.answers(pack(rows(16 * n, 16)))) for n in range(60)]
        await settled()
        late: deque[list[int]] = deque([[]] * LAG)
        shares = []
        while not all(block.done() for block in blocks):
            used, finished = 0, list[int]()
            if steps.due() is not None:
                step, finished = steps.take()
                used = step.rows
            late.append(finished)
            for row in late.popleft():
                answers.pop(row).set_result(None)
            await settled()
            if feed.waiting:
                shares.append(1 - used / device.slots)
        assert len(shares) > 2000
        assert sum(shares) / len(shares) <= most

    run(test)
