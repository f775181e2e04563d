"""A run's parts, each slowed down on purpose by sleeping; Ray's workers import them from here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
from PIL.Image import Image

import pipeline.images
from pipeline.contract.config import EngineConfig
from pipeline.contract.task import Generation, Request
from pipeline.engine.interface import Backend, EngineStats, Rendered
from pipeline.output.commit import NewParts
from pipeline.output.journal import Journal
from pipeline.output.parts import Committed
from pipeline.sources import Source
from pipeline.sources.units import Cut, Work
from tests.pipeline.fakes import FakeEngine, FakeRenderer

BLOCK = 4
"""Rows of a block."""
ROW_S = 0.05
"""What a row costs in a slow stage that does one row at a time."""
BLOCK_S = 0.4
"""What a block costs in a slow stage that two processes work in."""
COMMIT_S = 3.0
SLOTS = 8
ANSWER_S = 0.4
"""What an answer takes of a slow engine, which gives `SLOTS` at a time."""
LONG_S = 4.0
"""What an answer takes if there are few, and what an engine's start does if it is slow."""


@dataclass(frozen=True)
class SlowSource:
    """Another source, whose store gives few rows at a time."""

    made: Source

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "made":
            raise AttributeError(name)
        return getattr(self.made, name)

    def read(self, unit: Cut, columns: Sequence[str]) -> Iterator[pa.Table]:
        for table in self.made.read(unit, columns):
            for start in range(0, table.num_rows, BLOCK):
                time.sleep(BLOCK_S)
                yield table.slice(start, BLOCK)


class SlowJournal(Journal):
    def append(self, unit_id: str, entries: pa.Table) -> None:
        time.sleep(BLOCK_S)
        super().append(unit_id, entries)


class SlowCommits(NewParts):
    def commit(self, work: Work) -> Committed:
        time.sleep(COMMIT_S)
        return super().commit(work)


class SlowRenderer(FakeRenderer):
    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        time.sleep(ROW_S)
        return super().render(request, images)


class SlowImages(FakeRenderer):
    """Makes a step of loading images slow, in the process that it is made in."""

    def __init__(self, config: EngineConfig, step: str) -> None:
        super().__init__(config)
        made = getattr(pipeline.images, step)

        def slow(*arguments: Any) -> Any:
            time.sleep(ROW_S)
            return made(*arguments)

        setattr(pipeline.images, step, slow)


class Slots(FakeEngine):
    """An engine of few slots."""

    seconds = 0.01

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self.free = asyncio.Semaphore(SLOTS)

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        async with self.free:
            await asyncio.sleep(self.seconds)
            return await super().generate(rendered, key)

    def stats(self) -> EngineStats:
        return EngineStats(slots=SLOTS, start={"weights": 0.5, "graphs": 0.1})


class SlowEngine(Slots):
    seconds = ANSWER_S


class LongAnswers(Slots):
    seconds = LONG_S


class SlowFrontEnd(Slots):
    async def generate(self, rendered: Rendered, key: str) -> Generation:
        time.sleep(ROW_S)  # in the event loop
        return await super().generate(rendered, key)


class SlowStart(Slots):
    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        time.sleep(2 * LONG_S)


def backend(renderer: Any = FakeRenderer, engine: Any = Slots) -> Backend:
    return Backend(name="fake", renderer=renderer, engine=engine)


SLOW_FETCH = backend(partial(SlowImages, step="fetch_image"))
SLOW_DECODE = backend(partial(SlowImages, step="decode_image"))
