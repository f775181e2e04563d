"""How the facts of a run are written for people. Every figure keeps its unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.contract.record import counted
from pipeline.profiling.bounds import PHRASES, Bound

if TYPE_CHECKING:
    from pipeline.execution.display.facts import Facts

MINUTE, HOUR, DAY = 60, 3600, 86400
WHOLE = 100
"""From so many on, a rate is written without a decimal."""


def duration(seconds: float) -> str:
    """A time with its two largest units: `45 s`, `3 min 20 s`, `1 h 5 min`, `2 d 3 h`."""
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY:,} d {whole % DAY // HOUR} h"


def percentage(part: int, whole: int) -> str:
    """A part of a whole, rounded down: `100 %` is said of nothing that lacks a row."""
    return f"{100 * part // whole if whole else 100} %"


def rows(facts: Facts) -> str:
    """How far a run is: `1,200 of 3,000 rows, 40 %`."""
    return f"{facts.done:,} of {facts.total:,} rows, {percentage(facts.done, facts.total)}"


def rates(facts: Facts) -> str:
    """How fast it is; empty while that is not known."""
    if not facts.rows_per_second:
        return ""
    said = f"{_rate(facts.rows_per_second)} rows/s"
    if facts.input_tokens_per_second or facts.output_tokens_per_second:
        read, written = facts.input_tokens_per_second, facts.output_tokens_per_second
        said += f", tokens/s: {_rate(read)} in, {_rate(written)} out"
    return said


def left(facts: Facts) -> str:
    """The time that is left; empty while that is not known."""
    return "" if facts.seconds_left is None else f"{duration(facts.seconds_left)} left"


def outcomes(facts: Facts) -> str:
    """The rows of this run by outcome, the good ones first; and failures of before."""
    said = counted(facts.outcomes)
    if facts.failed_before:
        before = f"{facts.failed_before:,} failed before"
        said = f"{said}, {before}" if said else before
    return said


def bound(facts: Facts) -> str:
    """What bounds the run; empty while nothing that is measured does."""
    if facts.bound in (None, Bound.NOTHING):
        return ""
    return f"bound by {PHRASES[Bound(facts.bound)]}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= WHOLE else f"{value:,.1f}"
