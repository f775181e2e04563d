"""Adds up in the driver what the blocks bring back, and makes the profile of it."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from pipeline.profiling import events, stopwatch
from pipeline.profiling.measures import Measures, Moment, Span
from pipeline.profiling.profile import STAGES, EngineProfile, Profile, StageProfile
from pipeline.profiling.series import Series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.profiling.measures import EngineSlice

FULL = 0.9
"""An engine that has so many of the requests that it can work on counts as full."""
FIRSTS = {"render": "first_rendered", "journal": "first_journalled", "commit": "first_committed"}
"""The step of the start that is done when a stage first gave rows."""
WAITS = "commit_wait"
"""The driver's step that is no work."""


@dataclass(slots=True)
class _Stage:
    """As `StageProfile`, but still counting."""

    rows: int = 0
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    size: int = 0
    workers: int = 1


class Collector:
    """The measurements of one driver. `profile` may be called at any time.

    Args:
        began: When the run began, in Unix time; now if that is None.
    """

    def __init__(self, began: float | None = None) -> None:
        # A run before this one in the same process is not this one's.
        stopwatch.take()
        events.take()
        self._began = self._noted = time.time() if began is None else began
        self._ended = 0.0
        self._rows = 0
        self._moments: dict[str, float] = {}
        self._stages = {name: _Stage() for name in (*STAGES, "driver")}
        self._slots = 1
        self._engine_sums = defaultdict[str, float](float)
        self._engine_start: dict[str, float] = {}
        self._worst_lag = 0.0
        self._series = Series()

    def expect(self, workers: Mapping[str, int], slots: int) -> None:
        """Learn of what the stages run on.

        Args:
            workers: Processes of each stage that can work at once.
            slots: Requests that an engine works on at once, if it does not say so itself.
        """
        for stage, count in workers.items():
            self._stages[stage].workers = count
        self._slots = slots

    def moment(self, name: str) -> None:
        """A step of the start is done."""
        self._moment(Moment(name, time.time()))

    def note_driver(self, rows: int) -> Span:
        """Count what the driver did since the last call, in this thread, and give that.

        Args:
            rows: Rows that it has finished so far.
        """
        now = time.time()
        did = rows - self._rows
        span = Span("driver", self._noted, now, did, stopwatch.take(), events=events.take())
        self._span(span)
        self._noted, self._rows = now, rows
        return span

    def add(self, measures: Measures) -> None:
        """Add what came back."""
        for span in measures.spans:
            self._span(span)
        for piece in measures.slices:
            self._slice(piece)
        for moment in measures.moments:
            self._moment(moment)

    def profile(self) -> Profile:
        """All of it by now."""
        series = self._columns()
        return Profile(
            began=self._began,
            seconds=self._ended,
            rows=self._rows,
            moments=dict(sorted(self._moments.items(), key=lambda moment: moment[1])),
            stages={
                name: StageProfile(
                    rows=stage.rows,
                    seconds=dict(stage.seconds),
                    size=stage.size,
                    workers=stage.workers,
                )
                for name, stage in self._stages.items()
            },
            engine=self._engines(),
            every=self._series.every,
            series=series,
        )

    def _at(self, moment: float) -> float:
        """Seconds from the begin. Another machine's clock may be a little behind."""
        at = max(0.0, moment - self._began)
        self._ended = max(self._ended, at)
        return at

    def _moment(self, moment: Moment) -> None:
        at = self._at(moment.at)
        self._moments[moment.name] = min(at, self._moments.get(moment.name, at))
        for name, took in moment.seconds.items():
            self._engine_start[name] = max(took, self._engine_start.get(name, 0.0))

    def _span(self, span: Span) -> None:
        began, ended = self._at(span.began), self._at(span.ended)
        stage = self._stages[span.stage]
        stage.rows += span.rows
        stage.size += span.size
        self._series.add(f"entered.{span.stage}", began, span.rows)
        self._series.add(f"left.{span.stage}", ended, span.rows)
        for name, seconds in span.seconds.items():
            column = f"{WAITS if name == WAITS else 'busy'}.{span.stage}"
            self._series.spread(column, began, ended, seconds)
            stage.seconds[name] += seconds
        if span.stage in FIRSTS and span.rows:
            self._moment(Moment(FIRSTS[span.stage], span.ended))

    def _slice(self, piece: EngineSlice) -> None:
        began, ended = self._at(piece.began), self._at(piece.ended)
        length = ended - began
        slots = self._slots = piece.slots or self._slots
        amounts = {
            "watched": length,
            "in_flight": piece.in_flight,
            "empty": piece.empty,
            "full": length if piece.in_flight >= FULL * slots * length else 0.0,
            "running": piece.running,
            "waiting": piece.waiting,
            "loop_busy": piece.busy,
            "probes": piece.probes,
            "lag": piece.lag,
        }
        for name, amount in amounts.items():
            self._series.spread(f"engine.{name}", began, ended, amount)
            self._engine_sums[name] += amount
        self._engine_sums["refills"] += piece.refills
        self._engine_sums["refill"] += piece.refill
        self._engine_sums["steps"] += piece.steps
        self._worst_lag = max(self._worst_lag, piece.worst_lag)

    def _engines(self) -> EngineProfile:
        sums = self._engine_sums
        watched = sums["watched"] or 1.0
        return EngineProfile(
            engines=self._stages["generate"].workers,
            slots=self._slots,
            seconds=sums["watched"],
            steps=round(sums["steps"]),
            loop_lag=sums["lag"] / (sums["probes"] or 1),
            worst_loop_lag=self._worst_lag,
            refill=sums["refill"] / (sums["refills"] or 1),
            in_flight=sums["in_flight"] / watched,
            full=sums["full"] / watched,
            empty=sums["empty"] / watched,
            running=sums["running"] / watched,
            waiting=sums["waiting"] / watched,
            loop_busy=sums["loop_busy"] / watched,
            start=dict(self._engine_start),
        )

    def _columns(self) -> dict[str, list[float]]:
        """The series as `Profile` has them."""
        every = self._series.every
        points = int(self._ended / every) + 1
        columns: dict[str, list[float]] = {}

        def amounts(name: str) -> list[float]:
            return self._series.amounts(name, points)

        def total(name: str) -> list[float]:
            return [*accumulate(amounts(name))]

        for stage in STAGES:
            columns[f"rows.{stage}"] = [rows / every for rows in amounts(f"left.{stage}")]
            columns[f"inside.{stage}"] = _less(total(f"entered.{stage}"), total(f"left.{stage}"))
        for before, stage in pairwise(STAGES[:-1]):
            columns[f"before.{stage}"] = _less(total(f"left.{before}"), total(f"entered.{stage}"))
        for column in (*(f"busy.{stage}" for stage in self._stages), f"{WAITS}.driver"):
            columns[column] = [seconds / every for seconds in amounts(column)]
        for name in ("in_flight", "running", "waiting", "full", "empty"):
            columns[f"engine.{name}"] = [area / every for area in amounts(f"engine.{name}")]
        for name, by in (("loop_busy", "watched"), ("lag", "probes")):
            pairs = zip(amounts(f"engine.{name}"), amounts(f"engine.{by}"), strict=True)
            columns[f"engine.{name}"] = [part / whole if whole else 0.0 for part, whole in pairs]
        columns["engine.loop_lag"] = columns.pop("engine.lag")
        return columns


def _less(entered: list[float], left: list[float]) -> list[float]:
    """Rows that are there; clocks that differ could make them negative."""
    return [max(0.0, one - other) for one, other in zip(entered, left, strict=True)]
