"""What a process has measured, in the form in which it travels: with the block it was measured on.

A stage adds its own to what came with a block; the last one puts all of it into the receipt, so the
driver learns of it without a message of its own.
"""

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pipeline.profiling import events, stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BASE = {
    "read": "read",
    "render": "prepare",
    "parse": "parse",
    "journal": "journal",
    "commit": "commit",
}
"""The step of each stage that its time counts for if it is in no other."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of work of one stage, mostly over one block.

    Attributes:
        stage: one of `profile.STAGES`, or `driver`.
        began, ended: When its rows went in and came out, in Unix time.
        rows: How many.
        seconds: What a process worked on them, by step (see `stopwatch`).
        size: Bytes of their payloads as they came out; 0 where that is not known.
        events: What happened in the process since its last span, and how often (see `events`).
    """

    stage: str
    began: float
    ended: float
    rows: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    size: int = 0
    events: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSlice:
    """About a second of an engine, as its actor sees it.

    Attributes:
        began, ended: In Unix time.
        in_flight: Requests given to the engine and not answered, times seconds.
        empty: Seconds in which there was none.
        running, waiting: What the engine said of itself, times seconds.
        slots: Requests that it works on at once, as it says; 0 if it does not.
        steps: Steps that it took.
        busy: Seconds in which the actor's event loop worked.
        probes: How often the loop was asked for a sign of life.
        lag: Seconds by which these came late, all together.
        worst_lag: The latest.
        refills: How often a block was complete and another request was given after it.
        refill: Seconds from the one to the other, all together.
        queued: Rows that waited in the actor, times seconds.
        prompt_tokens: Tokens of the prompts that it has answered.
        cached_tokens: Those of them that its prefix cache had.
    """

    began: float
    ended: float
    in_flight: float
    empty: float
    running: float = 0.0
    waiting: float = 0.0
    slots: int = 0
    steps: int = 0
    busy: float = 0.0
    probes: int = 0
    lag: float = 0.0
    worst_lag: float = 0.0
    refills: int = 0
    refill: float = 0.0
    queued: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happens once in each process, such as `engine_ready`.

    Attributes:
        name: What.
        at: When, in Unix time.
        seconds: What it took, by step, if that is known.
    """

    name: str
    at: float
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measures:
    """All that was measured, in any order."""

    spans: tuple[Span, ...] = ()
    slices: tuple[EngineSlice, ...] = ()
    moments: tuple[Moment, ...] = ()

    def __add__(self, other: Measures) -> Measures:
        return Measures(
            self.spans + other.spans, self.slices + other.slices, self.moments + other.moments
        )

    def packed(self) -> bytes:
        """As bytes, for the column of a table."""
        return pickle.dumps(self, pickle.HIGHEST_PROTOCOL)


def unpacked(packed: Iterable[bytes]) -> Measures:
    """What is in the column of a table, together; `packed` made it."""
    found = Measures()
    for one in packed:
        found += pickle.loads(one)  # noqa: S301  made by `Measures.packed`
    return found


class Measured(Protocol):
    """Measures the way of a block's rows through a stage."""

    def finished(self, rows: int, size: int) -> Measures:
        """The rows are about to leave: all that was measured, with what came with the block.

        Args:
            rows: How many rows leave.
            size: Bytes of their payloads.
        """
        ...


class Stretch:
    """Measures a stretch of work that one thread does without a pause, from now on.

    Args:
        stage: Which stage's; one of `BASE`.
        carried: What came with the block.
    """

    def __init__(self, stage: str, carried: Measures | None = None) -> None:
        self._stage = stage
        self._carried = carried or Measures()
        self._began = time.time()
        stopwatch.restart(stage, BASE[stage])

    def finished(self, rows: int, size: int = 0) -> Measures:
        """See `Measured.finished`."""
        span = Span(
            self._stage, self._began, time.time(), rows, stopwatch.take(), size, events.take()
        )
        return self._carried + Measures(spans=(span,))
