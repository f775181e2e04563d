"""The profile of a run: where the rows were, what the processes did, and how it started.

A value, and the same as JSON under `profile` in the run's record. It tells of the blocks that have
come back to the driver; those of the last seconds of a run that is at work are not among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = 2
STAGES = ("read", "render", "generate", "parse", "journal", "commit")
"""In the order in which a row goes through them. An actor that parses also writes the journal: it
parses one block at a time, and meanwhile writes others."""
NUMBERS = 4
"""Digits of a number in JSON."""


@dataclass(frozen=True, kw_only=True)
class StageProfile:
    """What a stage's processes did, all together.

    Attributes:
        rows: Rows that went through, those that were computed twice counted twice.
        seconds: Seconds of work by step, see `stopwatch`; those of `generate` are only what its
            actor did in between.
        size: Bytes of the rows' payloads as they left it.
        workers: Processes, or threads of them, that can work at once.
    """

    rows: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    size: int = 0
    workers: int = 1

    @property
    def busy(self) -> float:
        """Seconds of work."""
        return sum(self.seconds.values())


@dataclass(frozen=True, kw_only=True)
class EngineProfile:
    """What the engines did, all together, while they were watched.

    Attributes:
        engines: How many there are.
        slots: Requests that each works on at once.
        seconds: Seconds that they were watched: from the first block on, each engine's counted.
        in_flight: Requests that an engine had, on average.
        full, empty: Share of the time in which it had (nearly) as many as slots, or none.
        running, waiting: What it said it worked on, or had besides, on average; 0 if it says
            nothing.
        steps: Steps of all of them; 0 if they do not say.
        loop_busy: Share of the time in which the actor's event loop was busy.
        loop_lag, worst_loop_lag: Seconds by which the loop was late, on average and at most.
        refill: Seconds from a block's last answer to the next request given, on average.
        start: Seconds of each step of an engine's start; of the slowest one.
    """

    engines: int
    slots: int
    seconds: float = 0.0
    in_flight: float = 0.0
    full: float = 0.0
    empty: float = 0.0
    running: float = 0.0
    waiting: float = 0.0
    steps: int = 0
    loop_busy: float = 0.0
    loop_lag: float = 0.0
    worst_loop_lag: float = 0.0
    refill: float = 0.0
    start: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where a run's time went.

    Attributes:
        began: When the run began, in Unix time.
        seconds: From then to the last thing that was measured.
        rows: Rows that are finished.
        moments: When each step of the start was done, in seconds from the begin, in their order:
            `checked`, `planned`, `ray`, `placed`, `renderer_ready`, `engine_ready`,
            `first_rendered`, `first_given` (to the engine), `first_answered`, `first_journalled`,
            `first_committed`.
        stages: By name: those of `STAGES`, and the `driver`.
        engine: The engines.
        every: Seconds of a point of the series.
        series: By name, a number for each point: `rows.<stage>` rows a second that left a stage,
            `inside.<stage>` rows in it at the end of the point, `before.<stage>` rows between the
            stage before and it, `busy.<stage>` processes that worked, `engine.in_flight` and
            `engine.running` and `engine.waiting` requests of all engines, `engine.full` and
            `engine.empty` engines, `engine.loop_busy` share of the time, `engine.loop_lag` seconds.
    """

    began: float
    seconds: float
    rows: int
    moments: Mapping[str, float]
    stages: Mapping[str, StageProfile]
    engine: EngineProfile
    every: float
    series: Mapping[str, Sequence[float]]

    @property
    def ended(self) -> float:
        """When the last thing was measured, in Unix time."""
        return self.began + self.seconds

    @property
    def ready(self) -> float:
        """Seconds from the begin until a renderer and an engine were ready; the end if none was."""
        needed = [self.moments.get(name) for name in ("renderer_ready", "engine_ready")]
        return max((at for at in needed if at is not None), default=self.seconds)

    @property
    def flowing(self) -> float:
        """Seconds from the begin until all was ready and the first rows were rendered."""
        return max(self.ready, self.moments.get("first_rendered", 0.0))

    def mean(self, name: str, since: float | None = None, until: float | None = None) -> float:
        """The mean of a series over a time; 0 where nothing was measured.

        Args:
            name: The series.
            since: From when on, in seconds from the begin; by default `flowing`.
            until: Until when; by default the end.
        """
        since = self.flowing if since is None else since
        until = self.seconds if until is None else until
        length = until - since
        if length <= 0:
            return 0.0
        total = 0.0
        for index, value in enumerate(self.series.get(name, ())):
            began, ended = index * self.every, min((index + 1) * self.every, until)
            # A point is a mean over its whole length, of which the last has only a part.
            total += value * max(0.0, ended - max(began, since))
        return total / length

    def last(self, name: str) -> float:
        """Seconds from the begin until a series is 0 for good."""
        values = self.series.get(name, ())
        points = max((index + 1 for index, value in enumerate(values) if value), default=0)
        return min(points * self.every, self.seconds)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, numbers rounded."""
        values: dict[str, Any] = _rounded(asdict(self))
        return {"format": FORMAT, **values, "began": round(self.began, 3)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Profile | None:
        """What `to_json` gave; None if another version's did."""
        if values.get("format") != FORMAT:
            return None
        stages = {name: StageProfile(**stage) for name, stage in values["stages"].items()}
        named = {name: values[name] for name in cls.__dataclass_fields__}
        return cls(**{**named, "stages": stages, "engine": EngineProfile(**values["engine"])})


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{NUMBERS}g}")
    if isinstance(value, Mapping):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, (list, tuple)) else value
