"""Feed: which of the rows in an engine's actor the engine has, and which wait for it.

Blocks wait in the actor, many times what the engine works on at once, and their rows enter it one
by one in the order they came, each as soon as there is room. So where one block ends and the next
begins is nothing to the engine, and neither is what happens between the actor and Ray while rows
wait here. A waiting block stays as it came, in Ray's shared memory; a row is unpickled when it
enters.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pipeline.stages.blocks import unpack
from pipeline.stages.rendered_row import RenderedRow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    import pyarrow as pa

    from pipeline.contract.task import Generation
    from pipeline.engine.interface import EngineStats
    from pipeline.stages.blocks import Item

SPARE_SHARE = 4
"""The engine is given a slot's worth of requests, and one more for every so many: those that end
together are replaced by requests that it has already."""
LEAST_SPARE = 8
MEASURED = 512
"""Requests over which their mean length is taken, about."""


class Room:
    """How many requests the engine is given at once.

    As many as it has slots, with a few to spare. Fewer where they would not fit into its KV cache
    by the lengths measured so far: vLLM would start them, throw some out and compute them again.

    Args:
        stats: What the engine says of its slots and its KV cache.
        requests: Its slots, where it does not say.
    """

    def __init__(self, stats: Callable[[], EngineStats], requests: int) -> None:
        self._stats = stats
        self._requests = requests
        self._answers = 0
        self._tokens = 0.0

    def note(self, answers: Iterable[Generation]) -> None:
        """Measure answered requests. A request counts with its prompt and its whole answer."""
        for answer in answers:
            if answer.failure is None:
                self._answers += 1
                tokens = answer.prompt_tokens + answer.output_tokens
                self._tokens += (tokens - self._tokens) / min(self._answers, MEASURED)

    @property
    def size(self) -> int:
        """Requests that the engine is given at once; at least 1."""
        stats = self._stats()
        slots = stats.slots or self._requests
        size = slots + max(LEAST_SPARE, slots // SPARE_SHARE)
        if stats.kv_tokens and self._tokens:
            size = min(size, int(stats.kv_tokens / self._tokens))
        return max(1, size)


@dataclass
class _Block:
    """A block in the actor.

    Attributes:
        rows: How many it has.
        items: Those that have not entered, in order.
        given: Called with the answered rows once none is left, or with why there are none.
        entered: How many have entered.
        answered: Those that are answered, by their number in the block.
    """

    rows: int
    items: Iterator[Item]
    given: asyncio.Future[list[Item]]
    entered: int = 0
    answered: dict[int, Item] = field(default_factory=dict)

    @property
    def waits(self) -> bool:
        """Whether rows of it have not entered."""
        return self.entered < self.rows

    def settle(self) -> None:
        """Give the answered rows back, in the block's order, if they are all there."""
        if not self.waits and len(self.answered) == self.rows and not self.given.done():
            self.given.set_result([self.answered[number] for number in sorted(self.answered)])

    def fail(self, error: BaseException) -> None:
        """Give an error in the place of the rows."""
        self.rows = self.entered
        if not self.given.done():
            self.given.set_exception(error)

    def give_up(self) -> None:
        """Leave out the rows that have not entered."""
        self.rows = self.entered
        self.settle()


class Feed:
    """Gives an engine the rows of all blocks in its actor; in the actor's event loop only.

    Args:
        answer: Answers a row; its payload is a `RenderedRow`. A row that comes back with one
            asks more, and is answered again.
        room: How many requests are answered at once.
    """

    def __init__(self, answer: Callable[[Item], Awaitable[Item]], room: Room) -> None:
        self._answer = answer
        self._room = room
        self._blocks: deque[_Block] = deque()
        self._tasks: set[asyncio.Task[Item]] = set()
        self._requests = 0

    @property
    def waiting(self) -> int:
        """Rows in the actor that have not entered the engine."""
        return sum(block.rows - block.entered for block in self._blocks)

    async def answers(self, block: pa.Table) -> list[Item]:
        """Answer a block, once its turn comes.

        Args:
            block: Its payloads are `RenderedRow`s.

        Returns:
            The rows, in their order; after `close`, those that had entered.

        Raises:
            Exception: What `answer` raised for one of the rows.
        """
        waiting = _Block(block.num_rows, unpack(block), asyncio.get_running_loop().create_future())
        self._blocks.append(waiting)
        self._fill()
        waiting.settle()  # it may have no rows
        return await waiting.given

    def close(self) -> None:
        """Let no more rows enter; those that wait are not answered."""
        for block in self._blocks:
            block.give_up()
        self._blocks.clear()

    def _fill(self) -> None:
        while self._blocks and self._requests < self._room.size:
            block = self._blocks[0]
            if block.waits:
                self._enter(block)
            if not block.waits:
                self._blocks.popleft()

    def _enter(self, block: _Block) -> None:
        number = block.entered
        block.entered += 1
        try:
            item = next(block.items)
        except Exception as error:  # a payload that does not unpickle here; of any class
            block.fail(error)
            return
        if item.is_settled:
            block.answered[number] = item
            block.settle()
            return
        self._begin(block, number, item)

    def _begin(self, block: _Block, number: int, item: Item) -> None:
        requests = len(item.payload.requests)
        self._requests += requests
        task = asyncio.ensure_future(self._answer(item))
        self._tasks.add(task)  # the loop itself keeps tasks only as long as others do
        task.add_done_callback(partial(self._leave, block, number, requests))

    def _leave(self, block: _Block, number: int, requests: int, task: asyncio.Task[Item]) -> None:
        self._tasks.discard(task)
        self._requests -= requests
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            block.fail(error)
        elif isinstance(task.result().payload, RenderedRow):  # it asks more, before others begin
            self._begin(block, number, task.result())
        else:
            block.answered[number] = task.result()
            block.settle()
        self._fill()
