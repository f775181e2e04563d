"""Generate: rendered requests to generations, in the actor that holds an engine.

All rows of a block, and of the other blocks in flight, are with the engine at once: a row enters as
it comes, and no row's answer waits for the slowest of a batch. A request that fails alone ends its
row. An engine that dies ends the actor's process, so that Ray starts another with a new engine: an
actor that stayed would fail every block it is given.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import psutil  # type: ignore[import-untyped]

from pipeline.contract.errors import Fault, RowError
from pipeline.contract.record import row_key
from pipeline.contract.task import Generation
from pipeline.engine.interface import EngineDiedError
from pipeline.engine.startup import attempt
from pipeline.stages.blocks import Item, pack, unpack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pyarrow as pa

    from pipeline.contract.config import EngineConfig
    from pipeline.engine.interface import InferenceEngine, Rendered
    from pipeline.stages.poison_rows import PoisonRows
    from pipeline.stages.render import Job


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
    """A row's generations, the state its task wants back, and who generated them (if anyone)."""

    generations: tuple[Generation, ...]
    state: object
    engine: EngineReport | None


class Generate:
    """The stage's actor.

    Args:
        config: The engine to start.
        make_engine: Starts it, here in the actor.
        poison_rows: Where rows are marked while they are worked on alone; None for no marks.
    """

    def __init__(
        self,
        config: EngineConfig,
        make_engine: Callable[[EngineConfig], InferenceEngine],
        poison_rows: PoisonRows | None = None,
    ) -> None:
        self._engine = attempt(make_engine, config, "the engine")
        self._poison_rows = poison_rows
        self._ready = time.time()
        # Ray Data tells a stage nothing of its end; the actor's process just exits. What is
        # registered last runs first, so the engine is still whole then.
        atexit.register(self._close)

    async def __call__(self, block: pa.Table) -> AsyncIterator[pa.Table]:
        """Blocks whose payload is a `Job` become blocks whose payload is an `Answered`."""
        try:
            answered = await asyncio.gather(*[self._take(item) for item in unpack(block)])
        except EngineDiedError as error:
            logging.getLogger(__name__).error("%s; this process ends", error)
            _end_process()
        yield pack(answered)

    async def _take(self, item: Item) -> Item:
        if item.is_settled:
            return item
        if isinstance(self._engine, Fault):
            return item.faulty(self._engine)
        if self._poison_rows is None:
            return await self._answer_row(item, self._engine)
        with self._poison_rows.isolated("generate", item.unit, item.position):
            try:
                return await self._answer_row(item, self._engine)
            except EngineDiedError:
                _end_process()

    async def _answer_row(self, item: Item, engine: InferenceEngine) -> Item:
        job: Job = item.payload
        key = row_key(item.unit, item.position)
        answers = (
            _answer(request, engine, f"{key}-{number}")
            for number, request in enumerate(job.requests)
        )
        try:
            generations = tuple(await asyncio.gather(*answers))
        except RowError as error:
            return item.failed(error)
        report = None
        if any(generation.failure is None for generation in generations):
            report = EngineReport(engine.model_class, self._ready)
        return item.carrying(Answered(generations, job.state, report))

    def _close(self) -> None:
        if not isinstance(self._engine, Fault):
            self._engine.close()


async def _answer(request: Rendered | RowError, engine: InferenceEngine, key: str) -> Generation:
    if isinstance(request, RowError):
        return _failed(request, 0)
    try:
        return await engine.generate(request, key)
    except RowError as error:
        if request.may_fail:
            return _failed(error, request.prompt_tokens)
        raise


def _failed(error: RowError, prompt_tokens: int) -> Generation:
    return Generation(
        text="", prompt_tokens=prompt_tokens, output_tokens=0, finish_reason="", failure=error
    )


def _end_process() -> NoReturn:
    """End this actor and what it started, at once; Ray starts it anew where it may."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)
