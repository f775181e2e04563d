"""A run's parts, each slowed down on purpose by sleeping; Ray's workers import them from here."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
from PIL.Image import Image

import pipeline.images
from pipeline.contract.config import EngineConfig
from pipeline.contract.task import Generation, Prepared, Request, Result, Row
from pipeline.engine.interface import Backend, EngineStats, Rendered
from pipeline.output.commit import NewParts
from pipeline.output.journal import Journal
from pipeline.output.parts import Committed
from pipeline.sources import Source
from pipeline.sources.units import Cut, Work
from tests.pipeline.fakes import ColourTask, FakeEngine, FakeRenderer
from tests.pipeline.sample_images import encoded, plain

BLOCK = 4
"""Rows of a block."""
ROW_S = 0.05
"""What a row costs in a slow stage that does one row at a time."""
BLOCK_S = 0.5
"""What a block costs in a slow stage that two processes work in."""
FILE_S = 0.2
"""What a file takes of a slow store of the journal."""
COMMIT_S = 4.0
SLOTS = 8
ANSWER_S = 0.4
"""What an answer takes of a slow engine, which gives `SLOTS` at a time."""
LONG_S = 4.0
SLOW_START_S = 2 * LONG_S
"""What an answer takes if there are few, and what an engine's start does if it is slow."""


ONE_AT_A_TIME = threading.Lock()
READY = (".renderer", ".engine")
"""Suffixes to the model's folder: files that tell of a renderer and an engine that are made."""


@dataclass(frozen=True)
class LateSource:
    """Another source, which gives no row until a renderer and an engine are there.

    So nothing that is slow is over before the start is.

    Attributes:
        made: The other one.
        model: The model's folder.
        pause: Seconds before each few rows.
    """

    made: Source
    model: str
    pause: float

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "made":
            raise AttributeError(name)
        return getattr(self.made, name)

    def read(self, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
        while not all(os.path.exists(self.model + suffix) for suffix in READY):
            time.sleep(0.02)
        for table in self.made.read(unit, columns):
            for start in range(0, table.num_rows, BLOCK):
                time.sleep(self.pause)
                yield table.slice(start, BLOCK)


class SlowJournal(Journal):
    """Its store takes one file at a time: a run writes many at once, and one would not hold it."""

    def append(self, unit_id: str, entries: pa.Table) -> None:
        with ONE_AT_A_TIME:
            time.sleep(FILE_S)
        super().append(unit_id, entries)


class SlowCommits(NewParts):
    def commit(self, work: Work) -> Committed:
        time.sleep(COMMIT_S)
        return super().commit(work)


class QuickRenderer(FakeRenderer):
    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        # The first image loads the decoders, which takes seconds on a busy machine.
        pipeline.images.decode_image(encoded(plain((1, 2, 3)), "PNG"), 10**6)
        open(config.model + READY[0], "w").close()


class SlowRenderer(QuickRenderer):
    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        time.sleep(ROW_S)
        return super().render(request, images)


class SlowImages(QuickRenderer):
    """Makes a step of loading images slow, in the process that it is made in."""

    def __init__(self, config: EngineConfig, step: str) -> None:
        super().__init__(config)
        made = getattr(pipeline.images, step)

        def slow(*arguments: Any, **options: Any) -> Any:
            time.sleep(ROW_S)
            return made(*arguments, **options)

        setattr(pipeline.images, step, slow)


class QuickEngine(FakeEngine):
    """An engine of few slots."""

    seconds = 0.01

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self.free = asyncio.Semaphore(SLOTS)
        open(config.model + READY[1], "w").close()

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        async with self.free:
            await asyncio.sleep(self.seconds)
            return await super().generate(rendered, key)

    def stats(self) -> EngineStats:
        return EngineStats(slots=SLOTS, start={"weights": 0.5, "graphs": 0.1})


class SlowEngine(QuickEngine):
    seconds = ANSWER_S


class LongAnswers(QuickEngine):
    seconds = LONG_S


class SlowFrontEnd(QuickEngine):
    async def generate(self, rendered: Rendered, key: str) -> Generation:
        time.sleep(ROW_S)  # in the event loop
        return await super().generate(rendered, key)


class SlowStart(QuickEngine):
    def __init__(self, config: EngineConfig) -> None:
        time.sleep(SLOW_START_S)
        super().__init__(config)


class SlowPreparation(ColourTask):
    def prepare(self, row: Row) -> Prepared:
        time.sleep(ROW_S)
        return super().prepare(row)


class SlowResults(ColourTask):
    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        time.sleep(ROW_S)
        return super().result(state, generations)


class SlowToPack(dict[str, bool]):
    """Takes its time where it is packed for another process."""

    def __reduce__(self) -> Any:
        time.sleep(ROW_S)
        return dict, (dict(self),)


class SlowTransport(ColourTask):
    def prepare(self, row: Row) -> Prepared:
        prepared = super().prepare(row)
        return replace(prepared, state=SlowToPack(seen=True))


def backend(renderer: Any = QuickRenderer, engine: Any = QuickEngine) -> Backend:
    return Backend(name="fake", renderer=renderer, engine=engine)


SLOW_FETCH = backend(partial(SlowImages, step="fetch_image"))
SLOW_DECODE = backend(partial(SlowImages, step="decode_image"))
