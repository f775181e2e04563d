"""Decides what all rows will take, from what some of them took: arithmetic, without a clock.

The time of a run is what comes once (the start, filling and emptying the engines, the end) and what
every row takes:

    seconds = once + rows * cost / rate,    once = seconds of the pilot - rows of it / rate

with the pilot's steady rate (`course`). A pilot has more of the long rows than the input, so `cost`
is what a row of the input costs, in rows of the pilot: its tokens, of which one that is written
costs `WRITTEN` that are read. Where something before the engine bounds the run it is its bytes.

N engines do N times as much, until something else bounds them (`limit`). Shares of rows that fail,
tokens and bytes are those of the pilot's rows, weighted by their strata.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from jobs.forecast.course import Steady, steady
from jobs.forecast.intervals import Interval, Z, effective_size, wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jobs.forecast.course import Course

WRITTEN = 4.0
"""What a written token costs, in tokens that are read: a step that writes is as long for one token
as one that reads some."""
SLACK = 1e-9
"""Of sums of weights, which are rounded."""
UNKNOWN_RATE = 0.05
"""Least uncertainty of a rate, as a share of it: a pilot sees a minute of a machine."""
UNKNOWN_START = 0.15
"""Uncertainty of what comes once: caches that are warm the second time, a store's mood."""


@dataclass(frozen=True, kw_only=True)
class SampledRow:
    """A row of a pilot, and what became of it.

    Attributes:
        stratum: Which kind of rows it is of.
        copies: Rows of the sample's units that are identical to it, itself included.
        size: Bytes of what it holds.
        prompt_tokens, output_tokens: What the model read and wrote.
        outcome: Its outcome.
        reason: Why it failed, equal for rows that failed for the same reason; empty if it did not.
        is_failure: Whether it has no results.
    """

    stratum: int
    copies: int = 1
    size: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    outcome: str = "ok"
    reason: str = ""
    is_failure: bool = False


@dataclass(frozen=True, kw_only=True)
class Population:
    """The rows that a forecast is about.

    Attributes:
        rows: Rows that the run will finish, without those that are kept as they are.
        computed: Of these, as a share, those that are not identical to another one of their unit.
        shares: The share of the rows in each stratum.
    """

    rows: int
    computed: float
    shares: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Time:
    """Seconds of a run.

    Attributes:
        seconds: In all.
        interval: In which they will lie, as long as the machines are as they were for the pilot.
        start: Seconds of them until the first row is given to an engine.
        once: Seconds of them that a run of any length takes, the start included.
        rows_per_second: After that.
        steady: What was measured.
        cost: What a row costs, in rows of the pilot.
    """

    seconds: float
    interval: Interval
    start: float
    once: float
    rows_per_second: float
    steady: Steady
    cost: float


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share of the rows, from 0 to 1.

    Attributes:
        share: The best guess.
        interval: In which it lies.
    """

    share: float
    interval: Interval


def tokens(row: SampledRow) -> float:
    """What a row costs an engine."""
    return row.prompt_tokens + WRITTEN * row.output_tokens


def size(row: SampledRow) -> float:
    """What a row costs before it reaches an engine."""
    return float(row.size)


def time_of(
    course: Course,
    rows: Sequence[SampledRow],
    population: Population,
    *,
    replicas: int,
    limit: float = math.inf,
    cost: Callable[[SampledRow], float] = tokens,
    disturbed: float = 0.0,
) -> Time:
    """What a run will take.

    Args:
        course: The pilot's.
        rows: Its rows.
        population: All rows.
        replicas: Engines of the run.
        limit: Rows a second, as the pilot's are, beyond which more engines do not help.
        cost: What a row costs.
        disturbed: The share of the machine that others used during the pilot: nobody knows how much
            of that a run will have.
    """
    measured = steady(course)
    ratio, unsure = _cost_ratio(rows, population, cost)
    rate = min(measured.rate * replicas / course.engines, max(limit, measured.rate)) / ratio
    once = max(course.start, course.seconds - course.rows / measured.rate)
    flowing = population.rows * population.computed / rate
    doubt = Z * math.hypot(max(measured.spread, UNKNOWN_RATE), unsure, disturbed)
    around = math.hypot(doubt * flowing, Z * UNKNOWN_START * once)
    seconds = once + flowing
    return Time(
        seconds=seconds,
        interval=Interval(max(course.start, seconds - around), seconds + around),
        start=course.start,
        once=once,
        rows_per_second=rate,
        steady=measured,
        cost=ratio,
    )


def _cost_ratio(
    rows: Sequence[SampledRow], population: Population, cost: Callable[[SampledRow], float]
) -> tuple[float, float]:
    """What a row of the population costs in rows of the pilot, and how unsure that is."""
    of_pilot = sum(map(cost, rows)) / len(rows)
    if not of_pilot:
        return 1.0, 0.0
    mean, variance = 0.0, 0.0
    whole = sum(population.shares[stratum] for stratum in {row.stratum for row in rows})
    for stratum, some in by_stratum(rows).items():
        values = [cost(row) for row in some]
        share = population.shares[stratum] / whole
        middle = sum(values) / len(values)
        mean += share * middle
        if len(values) > 1:
            within = sum((value - middle) ** 2 for value in values) / (len(values) - 1)
            variance += share**2 * within / len(values)
    return mean / of_pilot, math.sqrt(variance) / mean if mean else 0.0


def by_stratum(rows: Iterable[SampledRow]) -> dict[int, list[SampledRow]]:
    """The rows of each stratum."""
    found: dict[int, list[SampledRow]] = {}
    for row in rows:
        found.setdefault(row.stratum, []).append(row)
    return found


def weights(rows: Sequence[SampledRow], population: Population) -> list[float]:
    """What share of the population's rows each row of a pilot stands for; together 1."""
    strata = by_stratum(rows)
    whole = sum(population.shares[stratum] for stratum in strata)
    copies = {stratum: sum(row.copies for row in some) for stratum, some in strata.items()}
    return [
        population.shares[row.stratum] / whole * row.copies / copies[row.stratum] for row in rows
    ]


def share_of(
    rows: Sequence[SampledRow], population: Population, holds: Callable[[SampledRow], bool]
) -> Share:
    """The share of the population's rows for which something holds."""
    each = weights(rows, population)
    share = math.fsum(weight for weight, row in zip(each, rows, strict=True) if holds(row))
    sizes = [0] * len(population.shares)
    for row in rows:
        sizes[row.stratum] += 1
    size = effective_size(population.shares, sizes, population.rows * population.computed)
    size /= _design_effect(rows, each, holds)
    return Share(share=share, interval=wilson(min(share, 1.0), size))


def _design_effect(
    rows: Sequence[SampledRow], each: Sequence[float], holds: Callable[[SampledRow], bool]
) -> float:
    """How much larger the variance of a share is since rows stand for unequally many others.

    A broken image that is in the input ten times is one row of a pilot, and ten times as much
    hangs on whether it was drawn (Kish, 1965; linearised as for a ratio). At least 1.
    """
    real = even = 0.0
    by_kind: dict[int, list[tuple[float, bool]]] = {}
    for weight, row in zip(each, rows, strict=True):
        by_kind.setdefault(row.stratum, []).append((weight, holds(row)))
    for some in by_kind.values():
        whole = sum(weight for weight, _ in some)
        share = sum(weight for weight, is_one in some if is_one) / whole
        real += sum((weight * (is_one - share)) ** 2 for weight, is_one in some)
        even += whole**2 * share * (1 - share) / len(some)
    return max(1.0, real / even) if even else 1.0


def outcomes(rows: Sequence[SampledRow], population: Population) -> Mapping[str, Share]:
    """The share of each outcome that is no success, the most frequent first."""

    def share(name: str) -> Share:
        return share_of(rows, population, lambda row: row.outcome == name)

    found = {name: share(name) for name in {row.outcome for row in rows if row.is_failure}}
    return dict(sorted(found.items(), key=lambda each: (-each[1].share, each[0])))


def quantiles(
    values: Sequence[float], each: Sequence[float], at: Sequence[float]
) -> tuple[float, ...]:
    """Weighted quantiles: the smallest values that so much of the weight does not exceed.

    Args:
        values: The values; at least one.
        each: The weight of each.
        at: Shares, from 0 to 1.
    """
    ordered = sorted(zip(values, each, strict=True))
    whole = math.fsum(each)
    below = [*accumulate(weight for _, weight in ordered)]
    places = (bisect.bisect_left(below, share * whole - SLACK) for share in at)
    return tuple(ordered[min(place, len(ordered) - 1)][0] for place in places)
