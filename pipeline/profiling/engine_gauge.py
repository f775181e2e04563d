"""What is measured in the actor that holds an engine, whose rows come and go at any time.

How many requests the engine has is counted exactly, as each is given and answered. Once a second
the engine is asked what it is doing, and some times more often the actor's event loop how late it
is: a loop that is busy all the time gives requests and takes answers late, whatever the engine can.
The loop counts as busy for the time that its thread computes, or, if that is more, for the time of
the probes that come `LATE_S` late (it may wait in a call that blocks).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from pipeline.profiling import events, stopwatch
from pipeline.profiling.measures import EngineSlice, Measures, Moment, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

SLICE_S = 1.0
"""Seconds of a slice."""
PROBE_S = 0.1
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
    def prompt_tokens(self) -> int:
        """Tokens of the prompts that it has answered since its start."""
        ...

    @property
    def cached_tokens(self) -> int:
        """Those of them that its prefix cache had."""
        ...

    @property
    def start(self) -> Mapping[str, float]:
        """Seconds of each step of its start."""
        ...


@dataclass(slots=True)
class _OpenSlice:
    """What is counted of a slice that is not complete; see `EngineSlice`.

    Attributes:
        began, counted: When it began, and until when requests are counted (`perf_counter`).
        computed: What the thread had computed when it began, in seconds.
        late: Seconds of the probes that were late by `LATE_S`.
    """

    began: float = field(default_factory=perf_counter)
    counted: float = field(default_factory=perf_counter)
    computed: float = field(default_factory=time.thread_time)
    in_flight: float = 0.0
    empty: float = 0.0
    probes: int = 0
    late: float = 0.0
    lag: float = 0.0
    worst_lag: float = 0.0
    refills: int = 0
    refill: float = 0.0

    def count(self, in_flight: int) -> float:
        """Count the time since the last change of the requests in flight; gives the time."""
        now = perf_counter()
        since, self.counted = now - self.counted, now
        self.in_flight += in_flight * since
        if not in_flight:
            self.empty += since
        return now

    def probe(self, lag: float) -> None:
        """Count an answer of the loop that came late by so many seconds."""
        self.probes += 1
        self.late += PROBE_S + lag if lag > LATE_S else 0.0
        self.lag += lag
        self.worst_lag = max(self.worst_lag, lag)

    def busy(self, length: float) -> float:
        """Seconds in which the loop worked."""
        return min(max(time.thread_time() - self.computed, self.late), length)


class EngineGauge:
    """Measures one engine. All of it runs in the thread of the actor's event loop.

    Args:
        stats: Asks the engine; called about once a second.
        ready: When it was ready, in Unix time.
        queued: Counts the rows that wait in the actor; called about once a second.
        tell: Called with each slice as it is complete.
    """

    def __init__(
        self,
        stats: Callable[[], Stats],
        ready: float,
        queued: Callable[[], int] = lambda: 0,
        tell: Callable[[EngineSlice], None] = lambda _: None,
    ) -> None:
        self._stats = stats
        self._ready = ready
        self._queued = queued
        self._tell = tell
        self._sampler: asyncio.Task[None] | None = None
        self._slice = _OpenSlice()
        self._slices: list[EngineSlice] = []
        self._moments: list[Moment] = []
        self._given = self._answered = False
        self._block_ended: float | None = None
        self._in_flight = 0
        self._last: Stats | None = None

    def block(self, carried: Measures) -> BlockGauge:
        """Begin with a block.

        Args:
            carried: What came with it.
        """
        if self._sampler is None:
            stats = self._last = self._stats()
            self._moments.append(Moment("engine_ready", self._ready, dict(stats.start)))
        if self._sampler is None or self._sampler.done():
            self._slice = _OpenSlice()  # nothing is known of the time before
            self._sampler = asyncio.get_running_loop().create_task(self._sample())
        return BlockGauge(self, carried)

    def request(self) -> EngineGauge:
        """For a `with` statement: a request is given to the engine now, and answered at the end."""
        return self

    def __enter__(self) -> None:
        now = self._slice.count(self._in_flight)
        self._in_flight += 1
        if self._block_ended is not None:
            self._slice.refills += 1
            self._slice.refill += now - self._block_ended
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
        self._slice.count(self._in_flight)
        self._in_flight -= 1
        if not self._answered and error is None:
            self._answered = True
            self._moments.append(Moment("first_answered", time.time()))

    def take(self) -> Measures:
        """What was measured since the last call; a block that is complete takes it along."""
        now = perf_counter()
        if self._block_ended is None:
            self._block_ended = now
        if now - self._slice.began >= SHORTEST_SLICE_S:
            self._end_slice()
        taken = Measures(slices=tuple(self._slices), moments=tuple(self._moments))
        self._slices, self._moments = [], []
        return taken

    def _end_slice(self) -> None:
        done, stats, now = self._slice, self._stats(), time.time()
        length = done.count(self._in_flight) - done.began
        before = self._last or stats
        piece = EngineSlice(
            began=now - length,
            ended=now,
            in_flight=done.in_flight,
            empty=done.empty,
            running=stats.running * length,
            waiting=stats.waiting * length,
            slots=stats.slots,
            steps=stats.steps - before.steps,
            busy=done.busy(length),
            probes=done.probes,
            lag=done.lag,
            worst_lag=done.worst_lag,
            refills=done.refills,
            refill=done.refill,
            queued=self._queued() * length,
            prompt_tokens=stats.prompt_tokens - before.prompt_tokens,
            cached_tokens=stats.cached_tokens - before.cached_tokens,
        )
        self._slices.append(piece)
        self._last, self._slice = stats, _OpenSlice()
        self._tell(piece)

    async def _sample(self) -> None:
        while True:
            asked = perf_counter()
            await asyncio.sleep(PROBE_S)
            now = perf_counter()
            self._slice.probe(max(0.0, now - asked - PROBE_S))
            if now - self._slice.began >= SLICE_S:
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
        span = Span(
            "generate", self._began, time.time(), rows, stopwatch.take(), size, events.take()
        )
        return self._carried + Measures(spans=(span,)) + self._gauge.take()
