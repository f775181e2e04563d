"""Shows on a terminal where a run's time went: what bounds it, its stages, its start and course."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from pipeline.profiling.bounds import verdict
from pipeline.profiling.profile import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from pipeline.profiling.profile import EngineProfile, Profile

BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 32
"""As many as there is room for on a terminal of eighty columns."""
SHOWN_SHARE = 0.01
"""Steps that took less of their stage's time are not shown."""
COURSES = {
    "rows/s finished": "rows.parse",
    "requests in the engines": "engine.in_flight",
    "rows rendered and not there yet": "before.generate",
}
"""What is drawn over time: the series of each line."""


def profile_text(profile: Profile | None) -> RenderableType:
    """A run's profile: a sentence and tables; of a run that has none, that it has none."""
    if profile is None:
        return Text("There is no profile: no row has come back yet, or an earlier version ran.")
    sentence = Text(verdict(profile).sentence)
    return Group(sentence, _stages(profile), _start(profile), _course(profile))


def _stages(profile: Profile) -> Table:
    right = [Column(name, justify="right") for name in ("rows", "rows/s", "could do", "waiting")]
    table = Table("stage", *right, "at work", Column("its time", overflow="fold"))
    seconds = max(profile.seconds - profile.flowing, 0.001)
    for name in (*STAGES, "driver"):
        stage = profile.stages[name]
        could = (
            "" if name == "generate" else _number(stage.rows / (stage.busy or 1) * stage.workers)
        )
        waiting = profile.mean(f"before.{name}")
        is_engine = name == "generate"
        table.add_row(
            name,
            f"{stage.rows:,}",
            _number(stage.rows / seconds),
            could if stage.busy else "",
            _number(waiting) if f"before.{name}" in profile.series else "",
            _working(profile.engine)
            if is_engine
            else f"{profile.mean(f'busy.{name}'):.2f} of {stage.workers}",
            _engine_time(profile.engine) if is_engine else _shares(stage.seconds),
        )
    table.caption = (
        "from when the first rows were rendered and an engine was ready; waiting: rows before the "
        "stage, on average"
    )
    return table


def _working(engine: EngineProfile) -> str:
    each = " each" if engine.engines > 1 else ""
    return f"{engine.in_flight:,.1f} of {engine.slots:,} requests{each}"


def _engine_time(engine: EngineProfile) -> str:
    said = ""
    if engine.running or engine.waiting:
        said = f"; it ran {engine.running:,.1f} of them, {engine.waiting:,.1f} waited"
    return (
        f"full {engine.full:.0%}, empty {engine.empty:.0%}{said}; event loop busy "
        f"{engine.loop_busy:.0%}, late by {1000 * engine.loop_lag:.1f} ms; "
        f"{1000 * engine.refill:.0f} ms from a block's end to the next request"
    )


def _shares(seconds: Mapping[str, float]) -> str:
    """The steps of a stage, the longest first."""
    total = sum(seconds.values()) or 1.0
    ordered = sorted(seconds.items(), key=lambda step: -step[1])
    shown = [(step, took / total) for step, took in ordered if took / total >= SHOWN_SHARE]
    return ", ".join(f"{step.replace('_', ' ')} {share:.0%}" for step, share in shown)


def _start(profile: Profile) -> Table:
    table = Table("start", Column("after s", justify="right"))
    for name, at in profile.moments.items():
        table.add_row(name.replace("_", " "), f"{at:.2f}")
        if name == "engine_ready":
            for step, took in profile.engine.start.items():
                table.add_row(f"  of it {step}", f"({took:.2f})")
    return table


def _course(profile: Profile) -> Table:
    """The run over time, from its begin to its end."""
    table = Table("over time", "", Column("most", justify="right"))
    for title, name in COURSES.items():
        values = _fewer(profile.series.get(name, ()))
        most = max(values, default=0.0)
        bars = "".join(BARS[round(value / (most or 1) * (len(BARS) - 1))] for value in values)
        table.add_row(title, bars, _number(most))
    table.caption = f"{profile.seconds:,.0f} s from the command's begin"
    return table


def _fewer(values: Sequence[float]) -> list[float]:
    """The means of neighbours, so that there are at most `MOST_BARS`."""
    step = -(-len(values) // MOST_BARS) or 1
    groups = (values[at : at + step] for at in range(0, len(values), step))
    return [sum(group) / len(group) for group in groups]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"  # noqa: PLR2004  three digits
