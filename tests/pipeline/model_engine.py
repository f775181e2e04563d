"""A model of a GPU's engine, which only takes time, to see how full the pipeline keeps it.

It has so many slots, and takes a step after the other as long as it has rows: each takes a token of
every row in it, and some time. As on a GPU, steps go on while the actor's event loop is busy with
something else: a loop that comes back late finds done what was due meanwhile. It notes each step,
from which `used` finds how much of what could be done was done.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL.Image import Image

from pipeline.contract.config import EngineConfig
from pipeline.contract.task import Generation, Request
from pipeline.engine.interface import Backend, EngineStats, Rendered

SIDE = 896
"""Pixels of a side of a rendered image."""
WORDS = "ein roter Kreis links neben dem blauen Quadrat auf weissem Hintergrund und darunter " * 100
FLUSH_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Device:
    """What is modelled.

    Attributes:
        slots: Rows in a step, at most.
        step_s: Seconds of a step, however many rows it has.
        row_s: Seconds that each row adds to a step.
        tokens: Mean tokens of an answer, one for each step.
        spread: Lengths are between (1 - spread) and (1 + spread) times that.
        front_end: Share of the event loop's time that a full engine takes.
        start_s: Seconds until it is ready.
        kv_tokens: As in `EngineStats`.
        tells: Whether it tells of its slots.
        log: Folder in which the steps are noted; None notes none.
    """

    slots: int = 256
    step_s: float = 0.015
    row_s: float = 0.0
    tokens: int = 240
    spread: float = 0.0
    front_end: float = 0.0
    start_s: float = 0.0
    kv_tokens: int = 0
    tells: bool = True
    log: Path | None = None

    @property
    def rows_per_second(self) -> float:
        """What it can do at most."""
        return self.slots / (self.tokens * (self.step_s + self.slots * self.row_s))

    def length(self, key: str) -> int:
        """Tokens of the answer to a request."""
        place = 2 * random.Random(key).random() - 1
        return max(1, round(self.tokens * (1 + self.spread * place)))


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was taken.

    Attributes:
        end: When it ended, in Unix time (seconds).
        seconds: How long it took.
        rows: How many it had.
        finished: How many of them it finished.
    """

    end: float
    seconds: float
    rows: int
    finished: int


@dataclass
class Steps:
    """The device itself, in a time of its own.

    Attributes:
        device: What is modelled.
        free: When the step that is under way ends, or the last one ended.
        number: Steps taken.
        waiting: Rows that are not in a step yet: their lengths, and what they are.
        running: Rows in it: the step that is their last, and what they are.
    """

    device: Device
    free: float = 0.0
    number: int = 0
    waiting: deque[tuple[int, int]] = field(default_factory=deque)
    running: list[tuple[int, int]] = field(default_factory=list)

    def add(self, row: int, tokens: int, now: float) -> None:
        """Give it a row; it enters with the next step."""
        if not self.running and not self.waiting:
            self.free = max(self.free, now)
        self.waiting.append((tokens, row))

    def due(self) -> float | None:
        """When the next step ends; None if there is nothing to do."""
        rows = min(len(self.running) + len(self.waiting), self.device.slots)
        return self.free + self.device.step_s + rows * self.device.row_s if rows else None

    def take(self) -> tuple[Step, list[int]]:
        """Take the step that is due. Returns it and the rows that it finished."""
        end = self.due()
        assert end is not None
        while self.waiting and len(self.running) < self.device.slots:
            tokens, row = self.waiting.popleft()
            heapq.heappush(self.running, (self.number + tokens, row))
        rows, finished = len(self.running), []
        self.number += 1
        while self.running and self.running[0][0] <= self.number:
            finished.append(heapq.heappop(self.running)[1])
        step = Step(end, end - self.free, rows, len(finished))
        self.free = end
        return step, finished


class ModelEngine:
    """The model as an `InferenceEngine`."""

    model_class = "tests.pipeline.model_engine.ModelEngine"

    def __init__(self, device: Device, config: EngineConfig) -> None:
        time.sleep(device.start_s)
        self.config = config
        self._device = device
        self._steps = Steps(device)
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._rows = 0
        self._news = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._flushed = time.monotonic()
        self._noted: list[Step] = []
        self._log = None if device.log is None else device.log / f"{uuid.uuid4().hex}.steps"
        self._note()

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        if self._work is None:
            self._work = asyncio.create_task(self._run())
        tokens, self._rows = self._device.length(key), self._rows + 1
        answer = self._answers[self._rows] = asyncio.get_running_loop().create_future()
        self._steps.add(self._rows, tokens, time.time())
        self._news.set()
        await answer
        text = WORDS[: 4 * tokens]
        scores = (-0.5,) * len(rendered.scored_token_ids)
        return Generation(text, rendered.prompt_tokens, tokens, "stop", log_probabilities=scores)

    async def _run(self) -> None:
        while True:
            due = self._steps.due()
            if due is None:
                self._news.clear()
                await self._news.wait()
                continue
            await asyncio.sleep(max(0.0, due - time.time()))
            busy = 0
            while due is not None and due <= time.time():
                step, finished = self._steps.take()
                busy = max(busy, step.rows)
                for row in finished:
                    self._answers.pop(row).set_result(None)
                self._noted.append(step)
                due = self._steps.due()
            self._burn(busy / self._device.slots)
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._note()

    def _burn(self, share: float) -> None:
        until = time.perf_counter() + self._device.front_end * self._device.step_s * share
        while time.perf_counter() < until:
            pass

    def _note(self) -> None:
        self._flushed = time.monotonic()
        if self._log is not None:
            lines = (f"{s.end!r} {s.seconds!r} {s.rows} {s.finished}\n" for s in self._noted)
            with self._log.open("a") as log:
                log.writelines(lines)
        self._noted.clear()

    def stats(self) -> EngineStats:
        steps = self._steps
        return EngineStats(
            slots=self._device.slots if self._device.tells else 0,
            kv_tokens=self._device.kv_tokens,
            running=len(steps.running),
            waiting=len(steps.waiting),
            steps=steps.number,
        )

    def close(self) -> None:
        self._note()


class ModelRenderer:
    """Gives what a renderer gives, without its work: ids for texts, empty pixels for images."""

    def __init__(self, config: EngineConfig) -> None:
        self.max_model_len = config.max_model_len

    def count(self, text: str) -> int:
        return max(1, len(text) // 4)

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        ids = list(range(self.count(request.prompt)))
        pixels = [np.zeros((SIDE, SIDE, 3), np.uint8) for _ in images]
        return Rendered((ids, pixels), len(ids) + 256 * len(pixels), request.sampling)


def model_backend(device: Device) -> Backend:
    """A backend of engines that take the time that this device would."""
    return Backend(name="model", renderer=ModelRenderer, engine=partial(ModelEngine, device))


@dataclass(frozen=True)
class Use:
    """How full engines were kept.

    Attributes:
        engines: How many there were.
        rows: Rows that they finished.
        used: Share of their slots that had rows, between the first and the last 5 % of all rows,
            from when all engines were ready.
        idle_s: Seconds in that time in which an engine had no row at all, of all engines together.
        longest_idle_s: The longest of these.
        seconds: From the first row to the last.
    """

    engines: int
    rows: int
    used: float
    idle_s: float
    longest_idle_s: float
    seconds: float


def used(log: Path, device: Device) -> Use:
    """Read what the engines of a run noted."""
    files = sorted(log.glob("*.steps"))
    engines = [steps for file in files if (steps := _read(file))]  # one may have had no row
    finished = sorted((s.end, s.finished) for steps in engines for s in steps)
    rows = sum(count for _, count in finished)
    begin = max(_when(finished, 0.05 * rows), *(steps[0].end for steps in engines))
    end = _when(finished, 0.95 * rows)
    clipped = [[_clipped(s, begin, end) for s in steps] for steps in engines]
    area = sum(s.seconds * s.rows for steps in clipped for s in steps)
    gaps = [
        max(0.0, min(b.end - b.seconds, end) - max(a.end, begin))
        for steps in engines
        for a, b in zip(steps, [*steps[1:], Step(end, 0.0, 0, 0)], strict=True)
    ]
    return Use(
        engines=len(files),
        rows=rows,
        used=area / (device.slots * len(files) * (end - begin)),
        idle_s=sum(gaps),
        longest_idle_s=max(gaps),
        seconds=finished[-1][0] - min(steps[0].end - steps[0].seconds for steps in engines),
    )


def _read(file: Path) -> list[Step]:
    fields = (line.split() for line in file.read_text().splitlines())
    return [Step(float(a), float(b), int(c), int(d)) for a, b, c, d in fields]


def _when(finished: list[tuple[float, int]], rows: float) -> float:
    done = 0
    for at, count in finished:
        done += count
        if done >= rows:
            return at
    return finished[-1][0]


def _clipped(step: Step, begin: float, end: float) -> Step:
    inside = max(0.0, min(step.end, end) - max(step.end - step.seconds, begin))
    return replace(step, seconds=inside)
