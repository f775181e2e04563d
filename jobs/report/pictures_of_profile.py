"""Draws a run's profile: how its start went, and what each stage and the engines did over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.profiling.bounds import verdict
from pipeline.profiling.profile import STAGES

if TYPE_CHECKING:
    from pipeline.profiling.profile import Profile

WIDTH, HEIGHT = 600, 48
"""Of a curve, in the units of its picture."""
MOST_POINTS = 150


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One number over the run's time.

    Attributes:
        title: What it is.
        top: What the upper edge means.
        path: The area below the curve, as an SVG path in `WIDTH` by `HEIGHT`.
        said: The curve in words.
    """

    title: str
    top: str
    path: str
    said: str


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A step of the start.

    Attributes:
        name: What was done.
        at: After how many seconds.
        share: The same as a share of the run's time.
    """

    name: str
    at: float
    share: float


@dataclass(frozen=True, kw_only=True)
class ProfilePicture:
    """What is drawn of a profile.

    Attributes:
        sentence: What bounds the run.
        seconds: Its length.
        curves: From the first stage to the last.
        moments: In their order.
        ready: Share of the time until rows flowed.
        stages: Name, rows, seconds of work and the largest step of each stage.
    """

    sentence: str
    seconds: float
    curves: tuple[Curve, ...]
    moments: tuple[Moment, ...]
    ready: float
    stages: tuple[tuple[str, int, float, str], ...]


def picture_of(profile: Profile) -> ProfilePicture:
    """What is drawn of a profile."""
    seconds = max(profile.seconds, 1e-6)
    engine = profile.engine
    slots = engine.slots * engine.engines
    curves = [
        _curve("rows finished a second", profile.series.get("rows.journal", ()), None, "rows/s")
    ]
    in_flight = profile.series.get("engine.in_flight", ())
    curves.append(_curve("requests in the engines", in_flight, slots or None, "requests"))
    for name in STAGES:
        busy = profile.series.get(f"busy.{name}", ())
        if name != "generate" and any(busy):
            # The journal is written by threads of the processes that parse.
            kinds = ("thread", "threads") if name == "journal" else ("process", "processes")
            workers = profile.stages[name].workers
            curves.append(_curve(f"{name}: {kinds[1]} at work", busy, workers, kinds[workers != 1]))
    moments = tuple(
        Moment(name=name.replace("_", " "), at=at, share=min(1.0, at / seconds))
        for name, at in profile.moments.items()
    )
    return ProfilePicture(
        sentence=verdict(profile).sentence,
        seconds=profile.seconds,
        curves=tuple(curves),
        moments=moments,
        ready=min(1.0, profile.flowing / seconds),
        stages=tuple(_stage(profile, name) for name in (*STAGES, "driver")),
    )


def _stage(profile: Profile, name: str) -> tuple[str, int, float, str]:
    stage = profile.stages[name]
    largest = max(stage.seconds, key=lambda step: stage.seconds[step], default="")
    return name, stage.rows, stage.busy, largest.replace("_", " ")


def _curve(title: str, values: Sequence[float], top: float | None, unit: str) -> Curve:
    """A curve; without a `top`, its highest point is at the upper edge."""
    points = _fewer(values)
    most = max(points, default=0.0)
    edge = max(most, top or 0.0) or 1.0
    said = f"{title}: at most {most:,.1f}"
    steps = []
    for index, value in enumerate(points):
        left, right = (WIDTH * n / len(points) for n in (index, index + 1))
        level = HEIGHT * (1 - value / edge)
        steps.append(f"L{left:.1f} {level:.1f}L{right:.1f} {level:.1f}")
    path = f"M0 {HEIGHT}{''.join(steps)}L{WIDTH} {HEIGHT}Z" if steps else ""
    shown = f"{edge:,.1f}" if edge < 10 and not float(edge).is_integer() else f"{edge:,.0f}"  # noqa: PLR2004
    return Curve(title=title, top=f"{shown} {unit}", path=path, said=said)


def _fewer(values: Sequence[float]) -> list[float]:
    """The means of neighbours, so that there are at most `MOST_POINTS`."""
    step = -(-len(values) // MOST_POINTS) or 1
    groups = (values[at : at + step] for at in range(0, len(values), step))
    return [sum(group) / len(group) for group in groups]
