"""Decides how fast a pilot was once it was under way, and what of its time comes only once.

An engine takes `slots` rows at once. It begins with all of them at the same time, so rows whose
answers are about as long also end together, in waves of `slots` rows: a rate that is counted over
half a wave says nothing. It is counted here over whole waves, beginning at each block of the first
wave that can be followed by as many, and without the first and the last wave, in which the engine
fills and empties.

Where some answers are very long, a pilot has no such middle: while the last ones are written, the
engine is nearly empty. There the rate is that of the time in which the engine was full. What it
does is counted in steps of requests (ten requests in it for two steps are twenty): each row takes
so many of them however full the engine is, and the pilot says how many those are altogether.
"""

from __future__ import annotations

import bisect
import statistics
from dataclasses import dataclass

FULL = 0.85
"""An engine counts as full that has so many of the requests that it can work on."""
LEAST_FULL = 3
"""Pieces of time in which it must have been, to say how fast it was then."""
WAVES = 4
"""Waves that a pilot needs: one to fill, two to look at, one to empty."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an engine's time.

    Attributes:
        end: When it ended, in seconds since the begin.
        seconds: How long it was.
        in_flight: Requests in the engine, on average.
        steps: Steps that it took.
    """

    end: float
    seconds: float
    in_flight: float
    steps: float

    @property
    def work(self) -> float:
        """Steps of requests."""
        return self.in_flight * self.steps


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a pilot went.

    Attributes:
        seconds: From the command to the end, all included.
        start: Seconds of these until an engine was ready and the first rows were rendered.
        finished: Seconds since the begin and rows finished by then, both ascending.
        slots: Rows that all engines together work on at once.
        engines: How many there were.
        pieces: What each engine did, one piece of time after the other; none if it does not say.
    """

    seconds: float
    start: float
    finished: tuple[tuple[float, int], ...]
    slots: int
    engines: int = 1
    pieces: tuple[Piece, ...] = ()

    @property
    def full(self) -> float:
        """With so many requests an engine counts as full."""
        return FULL * self.slots / self.engines

    @property
    def rows(self) -> int:
        """Rows of the pilot."""
        return self.finished[-1][1] if self.finished else 0


@dataclass(frozen=True, kw_only=True)
class Steady:
    """What was measured in the middle of a course.

    Attributes:
        rate: Rows a second of all engines together.
        spread: Standard deviation of the rate over different stretches, as a share of it.
        rows: Rows of a stretch.
        is_short: Whether there were too few rows to look at a full engine: the rate is at least
            this one.
    """

    rate: float
    spread: float
    rows: int
    is_short: bool = False


def steady(course: Course) -> Steady:
    """The rate without the first and the last wave.

    Args:
        course: A course in which some row was finished.
    """
    rows, wave = course.rows, course.slots
    whole = (rows - 2 * wave) // wave
    span = wave * max(1, whole - 1)
    stretches = _stretches(course, wave, rows - wave, span) if whole >= 1 else []
    if not stretches or not _is_full(course, stretches):
        of_work = _of_work(course)
        if of_work is not None:
            return of_work
    if not stretches:
        return _of_few(course)
    rates = [one.rows / one.seconds for one in stretches]
    rate = sum(one.rows for one in stretches) / sum(one.seconds for one in stretches)
    return Steady(rate=rate, spread=statistics.pstdev(rates) / rate, rows=span)


def _is_full(course: Course, stretches: list[_Stretch]) -> bool:
    """Whether the engines were full over some stretches; nobody knows where they do not say."""
    began, ended = stretches[0].began, stretches[-1].began + stretches[-1].seconds
    inside = [piece for piece in course.pieces if began < piece.end <= ended]
    seconds = sum(piece.seconds for piece in inside)
    held = sum(piece.in_flight * piece.seconds for piece in inside)
    return not seconds or held / seconds >= course.full


def _of_work(course: Course) -> Steady | None:
    """The rate while the engines were full, by steps of requests; None if they hardly were."""
    full = [piece for piece in course.pieces if piece.in_flight >= course.full]
    done = sum(piece.work for piece in course.pieces)
    seconds = sum(piece.seconds for piece in full)
    rows = course.rows * course.engines
    rates = [rows * piece.work / piece.seconds / done for piece in full] if done else []
    if len(rates) < LEAST_FULL:
        return None
    rate = rows * sum(piece.work for piece in full) / done / seconds
    spread = statistics.stdev(rates) / rate / len(rates) ** 0.5 if rate else 0.0
    return (
        Steady(rate=rate, spread=spread, rows=round(rate * seconds / course.engines))
        if rate
        else None
    )


@dataclass(frozen=True, slots=True)
class _Stretch:
    began: float
    seconds: float
    rows: int


def _stretches(course: Course, first: int, last: int, span: int) -> list[_Stretch]:
    """The stretches of about `span` rows within `[first, last]`."""
    counts = [count for _, count in course.finished]
    found = []
    for at, (began, count) in enumerate(course.finished):
        if not first <= count <= last - span:
            continue
        ends = _nearest(counts, count + span)
        ended, reached = course.finished[ends]
        if ends > at and ended > began:
            found.append(_Stretch(began, ended - began, reached - count))
    return found


def _nearest(counts: list[int], wanted: int) -> int:
    """The place of the count that is nearest to what is wanted."""
    place = bisect.bisect_left(counts, wanted)
    if place == len(counts):
        return place - 1
    is_before = place and wanted - counts[place - 1] < counts[place] - wanted
    return place - 1 if is_before else place


def _of_few(course: Course) -> Steady:
    """The rate of a course that is too short for waves: that of all its rows after the start."""
    seconds = max(course.finished[-1][0] - course.start, 1e-3)
    rows = course.rows
    return Steady(rate=rows / seconds, spread=0.25, rows=rows, is_short=True)
