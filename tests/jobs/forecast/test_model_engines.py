"""The time of a million rows on model engines, forecast from a pilot on one of them.

Nothing waits here: the model keeps a time of its own (`tests.pipeline.model_engine.Steps`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from jobs.forecast.course import WAVES, Course, Piece
from jobs.forecast.predictor import Population, SampledRow, time_of
from jobs.forecast.strata import allocate, stratify
from tests.pipeline.model_engine import Device, Steps

ROWS = 1_000_000
BLOCK = 32
"""Rows that are finished together."""
END_S = 3.0
"""Seconds after the last row."""
TEXT = Device(slots=1024, step_s=0.016, tokens=64, start_s=40.0)
"""Some 1,000 rows a second, as the fastest device of `tests.speed.feed`."""


def run(device: Device, lengths: Sequence[int]) -> Course:
    """One engine over rows with answers of these lengths, as a pilot measures it."""
    steps = Steps(device, free=device.start_s)
    for row, tokens in enumerate(lengths):
        steps.add(row, tokens, device.start_s)
    left = [BLOCK] * (len(lengths) // BLOCK) + [len(lengths) % BLOCK or BLOCK]
    finished, pieces, done = [], [], 0
    while steps.due() is not None:
        step, rows = steps.take()
        pieces.append(Piece(step.end, step.seconds, step.rows, 1))
        for row in rows:
            left[row // BLOCK] -= 1
            done += BLOCK * (not left[row // BLOCK])
        if rows and done > (finished[-1][1] if finished else 0):
            finished.append((step.end, min(done, len(lengths))))
    return Course(
        seconds=steps.free + END_S,
        start=device.start_s,
        finished=tuple(finished),
        slots=device.slots,
        pieces=tuple(pieces),
    )


def answers(kind: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and answers' lengths of rows: equal, between a half and one and a half, or heavy."""
    random = np.random.default_rng(5)
    sizes = random.uniform(0.5, 1.5, rows)
    if kind == "equal":
        return sizes, np.full(rows, TEXT.tokens)
    if kind == "spread":
        return sizes, np.maximum(1, TEXT.tokens * random.uniform(0.5, 1.5, rows)).astype(int)
    sizes = random.lognormal(0, 1, rows)  # the longest are a hundred times the shortest
    return sizes, np.clip(TEXT.tokens / 1.6 * sizes, 1, 1000).astype(int)


def pilot(sizes: np.ndarray, lengths: np.ndarray) -> tuple[list[SampledRow], Population]:
    """Rows of a pilot, drawn as `sample` draws them."""
    strata = stratify(sizes, np.ones(len(sizes)))
    shares = np.bincount(strata) / len(strata)
    counts = np.bincount(strata).tolist()
    random = np.random.default_rng(6)
    drawn = allocate(counts, shares.tolist(), WAVES * TEXT.slots)
    places = np.sort(
        np.concatenate(
            [
                random.choice(np.flatnonzero(strata == stratum), count, replace=False)
                for stratum, count in enumerate(drawn)
            ]
        )
    )
    rows = [
        SampledRow(stratum=int(strata[at]), output_tokens=int(lengths[at]), prompt_tokens=0)
        for at in places
    ]
    population = Population(rows=len(sizes), computed=1.0, shares=tuple(shares.tolist()))
    return rows, population


@pytest.mark.parametrize(("kind", "replicas"), [("equal", 1), ("spread", 4), ("heavy", 1)])
def test_a_million_rows_take_what_was_forecast(kind: str, replicas: int) -> None:
    sizes, lengths = answers(kind, ROWS)
    rows, population = pilot(sizes, lengths)
    course = run(TEXT, [row.output_tokens for row in rows])
    forecast = time_of(course, rows, population, replicas=replicas)
    shares = [lengths[first::replicas] for first in range(replicas)]
    took = max(run(TEXT, share.tolist()).seconds for share in shares)
    assert forecast.seconds == pytest.approx(took, rel=0.05)
    assert took in forecast.interval
    print(f"{kind} {replicas}: forecast {forecast.seconds:.1f} s, took {took:.1f} s")


def test_counting_rows_over_the_whole_pilot_would_be_wrong() -> None:
    """What the course is for: start, filling and emptying would make it much too slow."""
    sizes, lengths = answers("spread", 100_000)
    rows, population = pilot(sizes, lengths)
    course = run(TEXT, [row.output_tokens for row in rows])
    took = run(TEXT, lengths.tolist()).seconds
    assert population.rows / course.rows * course.seconds > 2 * took
    assert population.rows / course.rows * (course.seconds - course.start) > 1.1 * took
