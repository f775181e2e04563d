"""What a benchmark found, as a table for people and as JSON for programs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rich.table import Table

from pipeline.output.run_record import versions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.cli.bench.offline import Answered
    from pipeline.profiling.profile import Profile


class Side(StrEnum):
    """What is measured."""

    RENDER = "render"
    ENGINE = "engine"
    OFFLINE = "offline"
    ROWS = "offline_rows"
    JOB = "job"


TITLES = {
    Side.RENDER: "render, one process",
    Side.ENGINE: "our engine, rendered beforehand",
    Side.OFFLINE: "vLLM's LLM.generate, rendered beforehand",
    Side.ROWS: "vLLM's LLM.generate, from images in memory",
    Side.JOB: "the whole job through Ray",
}


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One measurement.

    Attributes:
        rows: Rows per second.
        tokens: Output tokens per second; None for a side without any.
    """

    rows: float
    tokens: float | None = None


@dataclass(kw_only=True)
class Report:
    """Of one workload.

    Attributes:
        job: The job.
        model: The model's folder, or `demo`.
        rows: Rows of the workload.
        rates: Of each side, one for each repetition.
        outcomes: Rows of the last job by outcome.
        profile: Where the last job's time went.
    """

    job: str
    model: str
    rows: int
    rates: dict[Side, list[Rate]] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    profile: Profile | None = None

    def add(self, side: Side, *, rows: float, tokens: float | None = None) -> None:
        """Note a measurement."""
        self.rates.setdefault(side, []).append(Rate(rows=rows, tokens=tokens))

    def add_answered(self, side: Side, done: Answered) -> None:
        """Note what an engine did."""
        seconds = done.seconds
        self.add(side, rows=done.rows / seconds, tokens=done.output_tokens / seconds)

    @property
    def ratios(self) -> Mapping[Side, Sequence[float]]:
        """Rows a second of the job by those of each engine alone, one for each repetition."""
        jobs = self.rates.get(Side.JOB, [])
        return {
            side: [job.rows / alone.rows for job, alone in zip(jobs, self.rates[side], strict=True)]
            for side in (Side.ENGINE, Side.OFFLINE, Side.ROWS)
            if side in self.rates
        }

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "job": self.job,
            "model": self.model,
            "rows": self.rows,
            "rows_per_second": {side: [r.rows for r in rates] for side, rates in self._sides()},
            "output_tokens_per_second": {
                side: [rate.tokens for rate in rates]
                for side, rates in self._sides()
                if rates[0].tokens is not None
            },
            "job_by_side": {side: [*found] for side, found in self.ratios.items()},
            "outcomes": dict(self.outcomes),
            "profile": self.profile.to_json() if self.profile else None,
            "versions": versions(),
        }

    def _sides(self) -> list[tuple[Side, list[Rate]]]:
        return [(side, self.rates[side]) for side in Side if side in self.rates]

    def table(self) -> Table:
        """The medians, and where there are several measurements the least and the most."""
        columns = ("", "rows/s", "output tokens/s", "the job by this")
        table = Table(*columns, title=f"{self.job}, {self.rows:,} rows on this machine")
        for side, rates in self._sides():
            tokens = [rate.tokens for rate in rates if rate.tokens is not None]
            table.add_row(
                TITLES[side],
                _spread([rate.rows for rate in rates], ",.1f"),
                _spread(tokens, ",.0f"),
                _spread(self.ratios.get(side, ()), ".3f"),
            )
        return table


def _spread(values: Sequence[float], form: str) -> str:
    """The median, and the range of several."""
    if not values:
        return ""
    median = format(statistics.median(values), form)
    if len(values) == 1:
        return median
    return f"{median} ({min(values):{form}} to {max(values):{form}})"
