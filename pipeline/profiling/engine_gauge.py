"""What is measured in the actor that holds an engine, whose rows come and go at any time.

How many requests the engine has is counted exactly, as each is given and answered. Once a second
the engine is asked what it is doing, and some times more often the actor's event loop how late it
is: a loop that is busy all the time gives requests and takes answers late, whatever the engine can.
The loop counts as busy for the time that its thread computes, or, if that is more, for the share of
probes that come `LATE_S` late (it may wait in a call that blocks).
"""

from __future__ import annotations

import asyncio
import time
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from pipeline.profiling import stopwatch
from pipeline.profiling.measures import EngineSlice, Measures, Moment, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

SLICE_S = 1.0
"""Seconds of a slice."""
PROBE_S = 0.05
"""Time between two probes of the loop."""
LATE_S = 0.01
"""A probe that is later met a loop that was blocked; less can be the machine's own doing."""
SHORTEST_SLICE_S = 0.1
"""A block takes the slice that is not complete along, if that is longer."""


class Stats(Protocol):
    """What an engine says of itself, see `engine.interface.EngineStats`."""

    @property
    def slots(self) -> int:
        """Requests that it works on at once at most."""
        ...

    @property
    def running(self) -> int:
        """Requests that it works on."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that it has besides."""
        ...

    @property
    def steps(self) -> int:
        """Steps since its start."""
        ...

    @property
    def start(self) -> Mapping[str, float]:
        """Seconds of each step of its start."""
        ...


class EngineGauge:
    """Measures one engine. All of it runs in the thread of the actor's event loop.

    Args:
        stats: Asks the engine; called about once a second.
        ready: When it was ready, in Unix time.
    """

    def __init__(self, stats: Callable[[], Stats], ready: float) -> None:
        self._stats = stats
        self._ready = ready
        self._moments: list[Moment] = []
        self._slices: list[EngineSlice] = []
        self._given = self._answered = False
        self._sampler: asyncio.Task[None] | None = None
        self._in_flight = 0
        self._block_ended: float | None = None
        self._steps = 0
        self._begin_slice()

    def block(self, carried: Measures) -> BlockGauge:
        """Begin with a block.

        Args:
            carried: What came with it.
        """
        if self._sampler is None:
            self._moments.append(Moment("engine_ready", self._ready, dict(self._stats().start)))
        if self._sampler is None or self._sampler.done():
            self._begin_slice()  # nothing is known of the time before
            self._sampler = asyncio.get_running_loop().create_task(self._sample())
        return BlockGauge(self, carried)

    def request(self) -> EngineGauge:
        """For a `with` statement: a request is given to the engine now, and answered at the end."""
        return self

    def __enter__(self) -> None:
        now = self._count()
        self._in_flight += 1
        if self._block_ended is not None:
            self._refills += 1
            self._refill += now - self._block_ended
            self._block_ended = None
        if not self._given:
            self._given = True
            self._moments.append(Moment("first_given", time.time()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._count()
        self._in_flight -= 1
        if not self._answered and error is None:
            self._answered = True
            self._moments.append(Moment("first_answered", time.time()))

    def take(self) -> Measures:
        """What was measured since the last call; a block takes it along."""
        now = self._count()
        if self._block_ended is None:
            self._block_ended = now
        if now - self._slice_began >= SHORTEST_SLICE_S:
            self._end_slice()
        taken = Measures(slices=tuple(self._slices), moments=tuple(self._moments))
        self._slices, self._moments = [], []
        return taken

    def _count(self) -> float:
        """Count the time since the last change of what is in flight."""
        now = perf_counter()
        since, self._counted = now - self._counted, now
        self._area += self._in_flight * since
        if not self._in_flight:
            self._empty += since
        return now

    def _begin_slice(self) -> None:
        self._slice_began = self._counted = perf_counter()
        self._computed = time.thread_time()
        self._area = self._empty = self._lag = self._worst_lag = self._refill = 0.0
        self._probes = self._late = self._refills = 0

    def _end_slice(self) -> None:
        length, stats = self._count() - self._slice_began, self._stats()
        computed = time.thread_time() - self._computed
        late = self._late / self._probes * length if self._probes else 0.0
        now = time.time()
        self._slices.append(
            EngineSlice(
                began=now - length,
                ended=now,
                in_flight=self._area,
                empty=self._empty,
                running=stats.running * length,
                waiting=stats.waiting * length,
                slots=stats.slots,
                steps=stats.steps - self._steps,
                busy=min(max(computed, late), length),
                probes=self._probes,
                lag=self._lag,
                worst_lag=self._worst_lag,
                refills=self._refills,
                refill=self._refill,
            )
        )
        self._steps = stats.steps
        self._begin_slice()

    async def _sample(self) -> None:
        while True:
            asked = perf_counter()
            await asyncio.sleep(PROBE_S)
            now = perf_counter()
            lag = max(0.0, now - asked - PROBE_S)
            self._probes += 1
            self._late += lag > LATE_S
            self._lag += lag
            self._worst_lag = max(self._worst_lag, lag)
            if now - self._slice_began >= SLICE_S:
                self._end_slice()


class BlockGauge:
    """Measures the way of one block's rows through the actor; see `Measured`.

    Args:
        gauge: The engine's.
        carried: What came with the block.
    """

    def __init__(self, gauge: EngineGauge, carried: Measures) -> None:
        self._gauge = gauge
        self._carried = carried
        self._began = time.time()

    def finished(self, rows: int, size: int = 0) -> Measures:
        """See `Measured.finished`."""
        span = Span("generate", self._began, time.time(), rows, stopwatch.take(), size)
        return self._carried + Measures(spans=(span,)) + self._gauge.take()
