"""Decides how fast a pilot was once it was under way, and what of its time comes only once.

An engine takes `slots` rows at once. It begins with all of them at the same time, so rows whose
answers are about as long also end together, in waves of `slots` rows: a rate that is counted over
half a wave says nothing. It is counted here over whole waves, beginning at each block of the first
wave that can be followed by as many, and without the first and the last wave, in which the engine
fills and empties.
"""

from __future__ import annotations

import bisect
import statistics
from dataclasses import dataclass

WAVES = 4
"""Waves that a pilot needs: one to fill, two to look at, one to empty."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a pilot went.

    Attributes:
        seconds: From the command to the end, all included.
        start: Seconds of these until an engine was ready and the first rows were rendered.
        finished: Seconds since the begin and rows finished by then, both ascending.
        slots: Rows that all engines together work on at once.
        engines: How many there were.
    """

    seconds: float
    start: float
    finished: tuple[tuple[float, int], ...]
    slots: int
    engines: int = 1

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
    if whole < 1:
        return _of_few(course)
    span = wave * max(1, whole - 1)
    stretches = _stretches(course, wave, rows - wave, span)
    if not stretches:
        return _of_few(course)
    rates = [some / seconds for some, seconds in stretches]
    rate = sum(some for some, _ in stretches) / sum(seconds for _, seconds in stretches)
    spread = statistics.pstdev(rates) / rate
    return Steady(rate=rate, spread=spread, rows=span)


def _stretches(course: Course, first: int, last: int, span: int) -> list[tuple[int, float]]:
    """Rows and seconds of the stretches of about `span` rows within `[first, last]`."""
    counts = [count for _, count in course.finished]
    found = []
    for at, (began, count) in enumerate(course.finished):
        if not first <= count <= last - span:
            continue
        ends = _nearest(counts, count + span)
        ended, reached = course.finished[ends]
        if ends > at and ended > began:
            found.append((reached - count, ended - began))
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
