"""Generate: rendered requests to generations, in the actor that holds an engine.

All rows of a block, and of the other blocks in flight, are with the engine at once: a row enters as
it comes, and no row's answer waits for the slowest of a batch. A request that fails alone ends its
row; an engine that dies ends the call.
"""

from __future__ import annotations

import asyncio
import atexit
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import RowError
from pipeline.record import row_key
from pipeline.stages.blocks import Item, pack, unpack
from pipeline.stages.start import attempt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pyarrow as pa

    from pipeline.config import EngineConfig
    from pipeline.engine import Engine
    from pipeline.stages.render import Job
    from pipeline.task import Generation


@dataclass(frozen=True, slots=True)
class EngineReport:
    """Who answered.

    Attributes:
        model_class: Module and name of the class the engine loaded.
        ready: When the engine was ready, in seconds since the epoch.
    """

    model_class: str
    ready: float


@dataclass(frozen=True, slots=True)
class Answered:
    """A row's generations, the state its task wants back, and who generated them."""

    generations: tuple[Generation, ...]
    state: object
    engine: EngineReport


class Generate:
    """The stage's actor.

    Args:
        config: The engine to start.
        make_engine: Starts it, here in the actor.
    """

    def __init__(self, config: EngineConfig, make_engine: Callable[[EngineConfig], Engine]) -> None:
        self._engine = attempt(make_engine, config, "the engine")
        self._ready = time.time()
        # Ray Data tells a stage nothing of its end; the actor's process just exits. What is
        # registered last runs first, so the engine is still whole then.
        atexit.register(self._close)

    async def __call__(self, block: pa.Table) -> AsyncIterator[pa.Table]:
        """Blocks whose payload is a `Job` become blocks whose payload is an `Answered`."""
        engine = self._engine.get()
        items = [self._answer_row(item, engine) for item in unpack(block)]
        yield pack(await asyncio.gather(*items))

    async def _answer_row(self, item: Item, engine: Engine) -> Item:
        if item.outcome is not None:
            return item
        job: Job = item.payload
        key = row_key(item.unit, item.position)
        answers = (
            engine.generate(request, f"{key}-{number}")
            for number, request in enumerate(job.requests)
        )
        try:
            generations = tuple(await asyncio.gather(*answers))
        except RowError as error:
            return item.failed(error)
        report = EngineReport(engine.model_class, self._ready)
        return item.carrying(Answered(generations, job.state, report))

    def _close(self) -> None:
        if self._engine.made is not None:
            self._engine.made.close()
