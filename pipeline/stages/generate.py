"""Generate: from rendered requests to generations, in the actor that holds an engine.

The engine gets the rows of all blocks in flight as it has room for them (`feed`). A request that
fails fails its row only. If the engine dies, the actor ends its own process, so that Ray starts
another one with a new engine; otherwise it would fail every further block.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pipeline.contract.config import REQUESTS_ON_CPU
from pipeline.contract.errors import Fault, RowError
from pipeline.contract.record import row_key
from pipeline.contract.task import Generation
from pipeline.engine.interface import EngineDiedError, EngineStats
from pipeline.engine.orphans import end_process
from pipeline.engine.startup import attempt, following_steps
from pipeline.metrics.of_engine import EngineMetrics
from pipeline.profiling import events
from pipeline.profiling.engine_gauge import EngineGauge
from pipeline.stages.blocks import Item, measures_of, pack, seal, unseal
from pipeline.stages.drain import Intake, actor_id, is_restarted
from pipeline.stages.feed import Feed, Room
from pipeline.stages.start_board import READY
from pipeline.storage.write_fault import OutputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence

    import pyarrow as pa

    from pipeline.contract.config import EngineConfig
    from pipeline.engine.interface import InferenceEngine, Rendered
    from pipeline.metrics.labels import RunLabels
    from pipeline.profiling.measures import EngineSlice
    from pipeline.stages.drain import Drain
    from pipeline.stages.follow_ups import FollowUps
    from pipeline.stages.poison_rows import PoisonRows
    from pipeline.stages.rendered_row import RenderedRow
    from pipeline.stages.start_board import StartBoard

NOTE_SECONDS = 1.0
"""Time between two looks at what keeps an engine."""


@dataclass(frozen=True)
class EngineReport:
    """The engine that answered.

    Attributes:
        model_class: Module and name of the model class that it loaded.
        ready: When it was ready, in Unix time (seconds).
    """

    model_class: str
    ready: float


@dataclass(frozen=True)
class Answered:
    """A row after generation.

    Attributes:
        generations: One for each request, in their order.
        state: What the task wants back with them.
        engine: What generated them; None if every request failed.
    """

    generations: tuple[Generation, ...]
    state: object
    engine: EngineReport | None


class Generate:
    """The stage's actor.

    Args:
        config: The engine to start.
        make_engine: Starts it; called in the actor.
        poison_rows: Where isolated rows are marked; None if rows are not isolated.
        drain: Asks for an end of work; None if nobody will.
        starts: Where the steps of the engine's start are told, and later what keeps it; None if
            nobody looks.
        follow_ups: What is asked about a row once it has answers; None for nothing.
        requests: Requests that the engine works on at once, where it does not say.
        tells_notes: See `Backend`.
        labels: Of the metrics that it tells; None tells none.
    """

    def __init__(
        self,
        config: EngineConfig,
        make_engine: Callable[[EngineConfig], InferenceEngine],
        poison_rows: PoisonRows | None = None,
        drain: Drain | None = None,
        starts: StartBoard | None = None,
        *,
        follow_ups: FollowUps | None = None,
        requests: int = REQUESTS_ON_CPU,
        tells_notes: bool = False,
        labels: RunLabels | None = None,
    ) -> None:
        self._board = starts if tells_notes else None
        self._notes: asyncio.Task[None] | None = None
        with _told(starts):
            self._engine = attempt(make_engine, config, "the engine")
        self._room = Room(self._stats, requests)
        self._feed = Feed(self._take, self._room)
        self._poison_rows = poison_rows
        self._follow_ups = follow_ups
        self._ready = time.time()
        self._gauge = EngineGauge(
            self._stats, self._ready, lambda: self._feed.waiting, _telling(labels)
        )
        if labels is not None and is_restarted():
            events.note("engine_restart")
        # Ray Data (2.60) calls nothing when a stage ends; the actor's process just exits. What was
        # registered last runs first, so the engine still works then.
        self._intake = Intake(drain, self._feed.close)
        if not isinstance(self._engine, Fault):
            atexit.register(self._engine.close)
            self._intake.open()

    async def __call__(self, sealed: pa.Table) -> AsyncIterator[pa.Table]:
        """Answer a sealed block of `RenderedRow`s with one of `Answered`s."""
        (block,) = unseal(sealed)
        if not await self._intake.admits():
            yield seal(pack([]))
            return
        self._tell_notes()
        measured = self._gauge.block(measures_of(block))
        try:
            with self._intake.working():
                answered = await self._feed.answers(block)
                yield seal(pack(answered, measured))
                self._intake.give_back(len(answered))
        except EngineDiedError as error:
            logging.getLogger(__name__).error("%s; this process ends", error)
            end_process()

    def _stats(self) -> EngineStats:
        return EngineStats() if isinstance(self._engine, Fault) else self._engine.stats()

    def _tell_notes(self) -> None:
        """Tell from now on what keeps the engine."""
        if self._notes is None and self._board is not None:
            self._notes = asyncio.create_task(_told_notes(self._stats, self._board))

    async def _take(self, item: Item) -> Item:
        if isinstance(self._engine, Fault):
            return item.faulty(self._engine)
        if self._poison_rows is None:
            return await self._answer_row(item, self._engine)
        try:
            with self._poison_rows.isolated("generate", item.unit, item.position):
                try:
                    return await self._answer_row(item, self._engine)
                except EngineDiedError:
                    end_process()  # the mark stays
        except OutputError as error:
            return item.faulty(Fault(ends_run=True, message=str(error)))

    async def _answer_row(self, item: Item, engine: InferenceEngine) -> Item:
        rendered: RenderedRow = item.payload
        key = row_key(item.unit, item.position)
        answers = [
            _answer(request, engine, f"{key}-{number}", self._gauge)
            for number, request in enumerate(rendered.requests, len(rendered.asked))
        ]
        try:
            # Of one, as most rows have, `_together` would make another task.
            generations = (await answers[0],) if len(answers) == 1 else await _together(answers)
        except RowError as error:
            return item.failed(error)
        except EngineDiedError as error:
            if error.fault is None:
                raise
            return item.faulty(error.fault)  # there will be no other engine
        self._room.note(generations)
        more = self._follow_ups and self._follow_ups.after(item, generations)
        return more or item.carrying(self._answered(rendered, generations, engine))

    def _answered(
        self, row: RenderedRow, generations: tuple[Generation, ...], engine: InferenceEngine
    ) -> Answered:
        every = (*row.answers, *generations)
        report = None
        if any(generation.failure is None for generation in every):
            report = EngineReport(engine.model_class, self._ready)
        return Answered(every, row.state, report)


def _telling(labels: RunLabels | None) -> Callable[[EngineSlice], None]:
    """What tells the engine's metrics."""
    return (lambda _: None) if labels is None else EngineMetrics(labels, actor_id()[:8]).tell


async def _told_notes(stats: Callable[[], EngineStats], board: StartBoard) -> None:
    """Tell each new note of an engine, until this is cancelled."""
    told = ""
    while True:
        await asyncio.sleep(NOTE_SECONDS)
        note = stats().note
        if note != told:
            await asyncio.to_thread(board.note, actor_id(), note)
            told = note


@contextlib.contextmanager
def _told(starts: StartBoard | None) -> Iterator[None]:
    """Tell where it logs, the steps of the engine's start within, and that it is ready."""
    if starts is None:
        yield
        return
    starts.log(actor_id())
    tell = partial(starts.tell, actor_id())
    with following_steps(tell):
        yield
    tell(READY)


async def _together(
    answers: Sequence[Coroutine[None, None, Generation]],
) -> tuple[Generation, ...]:
    """All answers of a row. If one fails, it fails once the engine has none of the others."""
    tasks = [asyncio.create_task(answer) for answer in answers]
    try:
        return tuple(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _answer(
    request: Rendered | RowError, engine: InferenceEngine, key: str, gauge: EngineGauge
) -> Generation:
    if isinstance(request, RowError):
        return _failed(request, 0)
    try:
        with gauge.request():
            return await engine.generate(request, key)
    except RowError as error:
        if request.may_fail:
            return _failed(error, request.prompt_tokens)
        raise


def _failed(error: RowError, prompt_tokens: int) -> Generation:
    return Generation(
        text="", prompt_tokens=prompt_tokens, output_tokens=0, finish_reason="", failure=error
    )
