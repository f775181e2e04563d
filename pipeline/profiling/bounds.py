"""Decides what bounds a run: what would have to be faster for the run to be faster.

The start does if it took `MOSTLY_START` of the run. Otherwise it is what bounds the time after it,
from when the first rows were rendered to the end (for reading, from when all was ready); the first
of these that holds:

    the front end       the event loop that gives requests to the engine and takes its answers was
                        busy for `LOOP_BUSY` of the time; the engine's requests pile up behind it
    the engine          it had about as many requests as it can work on for `FULL_SHARE` of the time
    a stage             its processes were busy for `SATURATED` of the time, and more than those of
                        any other stage. What is before a slow stage is held back and what is behind
                        it waits for rows, so it is the busiest one. Of its steps, the one that took
                        most time is named. Commits also bound a run where the driver waits for them
    the input's size    the engine had rows for `HAS_ROWS` of the time, but there were never enough
                        to fill it
    the hand-over       rows were rendered, a quarter of what the engines take, and waited while
                        the engine had room
    nothing             of all that is measured; the busiest stage is named

The shares are below 1 since a run has a first and a last block, for which most stages wait. Of a
stage that worked for `MOST` of the time, what comes after its last row is left out: there it is
the stages behind it that work.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeline.profiling.collector import WAITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.profiling.profile import Profile

MOSTLY_START = 0.7
WORTH_TELLING = 0.3
"""A start that took so much of a run is told beside what bounds the rest."""
LOOP_BUSY = 0.75
FULL_SHARE = 0.6
SATURATED = 0.5
MOST = 0.5
HAS_ROWS = 0.6
WAITING = 0.25


class Bound(StrEnum):
    """What bounds a run; for stages, their step (see `stopwatch`)."""

    NOTHING = "nothing"
    START = "start"
    FRONT_END = "front_end"
    ENGINE = "engine"
    SIZE = "size"
    HANDOVER = "handover"
    TRANSPORT = "transport"
    READ = "read"
    PREPARE = "prepare"
    FETCH = "fetch"
    DECODE = "decode"
    RESIZE = "resize"
    TOKENISE = "tokenise"
    PARSE = "parse"
    JOURNAL = "journal"
    COMMIT = "commit"
    RECEIPTS = "receipts"


PHRASES = {
    Bound.FRONT_END: "the engine's front end (the event loop that gives it requests)",
    Bound.ENGINE: "the engine's capacity",
    Bound.SIZE: "the size of the input: too few rows to fill the engine",
    Bound.HANDOVER: "handing rows over to the engine",
    Bound.TRANSPORT: "transport: packing and unpacking rows",
    Bound.READ: "reading the input",
    Bound.PREPARE: "preparing rows for the model (the task's own code)",
    Bound.FETCH: "fetching images",
    Bound.DECODE: "decoding images",
    Bound.RESIZE: "resizing images",
    Bound.TOKENISE: "tokenising (the renderer, images aside)",
    Bound.PARSE: "parsing answers (the task's own code)",
    Bound.JOURNAL: "the store of the journal",
    Bound.COMMIT: "commits",
    Bound.RECEIPTS: "the driver, which counts what comes back",
    Bound.NOTHING: "nothing that is measured",
}
STEPS = {"unpack": Bound.TRANSPORT, "pack": Bound.TRANSPORT}
"""Steps that are called otherwise."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What bounds a run.

    Attributes:
        afterwards: What bounds it after the start.
        reason: The figures that say so.
        start: Share of the run's time until a renderer and an engine were ready.
        longest: The longest part of the start.
    """

    afterwards: Bound
    reason: str
    start: float
    longest: str

    @property
    def bound(self) -> Bound:
        """What bounds the whole run."""
        return Bound.START if self.start >= MOSTLY_START else self.afterwards

    @property
    def sentence(self) -> str:
        """For people, in one line."""
        afterwards = f"{PHRASES[self.afterwards]}; {self.reason}"
        start = f"{self.start:.0%} of the time{self.longest}"
        if self.bound is Bound.START:
            return f"What bounds this run: the start ({start}). Afterwards: {afterwards}."
        told = f"What bounds this run: {afterwards}."
        return told if self.start < WORTH_TELLING else f"{told} The start took {start}."


def verdict(profile: Profile) -> Verdict:
    """What bounds a run, by the rules above."""
    start = min(1.0, profile.ready / profile.seconds) if profile.seconds else 1.0
    afterwards, reason = next(_holding(profile))
    longest = _longest(profile)
    return Verdict(afterwards=afterwards, reason=reason, start=start, longest=longest)


def _holding(profile: Profile) -> Iterator[tuple[Bound, str]]:
    """All that holds after the start, the first being the verdict."""
    engine = profile.engine
    full = profile.mean("engine.full") / engine.engines
    if not profile.rows:
        yield Bound.NOTHING, "no row has come back yet"
    if engine.loop_busy >= LOOP_BUSY:
        yield Bound.FRONT_END, f"it was busy {engine.loop_busy:.0%} of the time"
    if full >= FULL_SHARE:
        yield Bound.ENGINE, f"it had all the requests that it takes {full:.0%} of the time"
    stage, share = max(_shares(profile).items(), key=lambda found: found[1])
    if share >= SATURATED:
        yield _slowest_step(profile, stage, share)
    yield from _unfilled(profile)
    yield Bound.NOTHING, f"the busiest stage, {stage}, was busy {share:.0%} of the time"


def _unfilled(profile: Profile) -> Iterator[tuple[Bound, str]]:
    """Why an engine may not be full though no stage is too slow."""
    engine = profile.engine
    room = engine.slots * engine.engines
    in_flight = profile.mean("engine.in_flight")
    watched = engine.seconds / engine.engines
    has_rows = (1 - engine.empty) * watched / max(watched, profile.seconds - profile.flowing)
    if profile.rows <= room and has_rows >= HAS_ROWS:
        yield Bound.SIZE, f"{profile.rows:,} rows for {room:,} places"
    waiting = profile.mean("before.generate") + profile.mean("inside.generate") - in_flight
    if waiting >= WAITING * room:
        yield (
            Bound.HANDOVER,
            f"{waiting:,.0f} rendered rows waited, and the engine had {in_flight:,.0f} of the "
            f"{room:,} requests that it takes",
        )


def _shares(profile: Profile) -> dict[str, float]:
    """By stage, the share of its processes' time in which they worked."""
    stages = {name: stage for name, stage in profile.stages.items() if name != "generate"}
    shares = {
        name: _share(profile, f"busy.{name}", profile.flowing) / stage.workers
        for name, stage in stages.items()
    }
    # Until rows flow, the others may be waiting for these.
    shares["read"] = _share(profile, "busy.read", profile.ready) / stages["read"].workers
    shares["commit"] = max(shares["commit"], profile.mean(f"{WAITS}.driver"))
    return shares


def _share(profile: Profile, name: str, since: float) -> float:
    """How many of a stage's processes worked, from a time on until its last row or the end."""
    last = profile.last(name)
    worked_on = last - since >= MOST * (profile.seconds - since)
    return profile.mean(name, since, last if worked_on else None)


def _slowest_step(profile: Profile, name: str, share: float) -> tuple[Bound, str]:
    stage = profile.stages[name]
    seconds = {step: took for step, took in stage.seconds.items() if step != WAITS}
    step = max(seconds, key=lambda step: seconds[step])
    of_it = seconds[step] / (sum(seconds.values()) or 1.0)
    who = f"{stage.workers} {name} process{'es' if stage.workers > 1 else ''}"
    reason = f"{share:.0%} of the time of {who} was work, {of_it:.0%} of that this"
    return STEPS.get(step) or Bound(step), reason


def _longest(profile: Profile) -> str:
    """The longest step of the start, if it has any. Renderers and engines start side by side."""
    order = ("checked", "planned", "ray", "placed")
    done = [(profile.moments[name], name) for name in order if name in profile.moments]
    ready = ("renderer_ready", "engine_ready")
    last = [(profile.moments[name], name) for name in ready if name in profile.moments]
    done += [max(last)] if last else []
    if not done:
        return ""
    befores = (0.0, *(at for at, _ in done))
    took, name = max((at - before, name) for before, (at, name) in zip(befores, done, strict=False))
    of_engine = profile.engine.start
    if name == "engine_ready" and sum(of_engine.values()) > took / 2:
        name = max(of_engine, key=lambda step: of_engine[step])
        return f", {of_engine[name]:.1f} s of it the engine's {name}"
    return f", {took:.1f} s of it until '{name.replace('_', ' ')}'"
