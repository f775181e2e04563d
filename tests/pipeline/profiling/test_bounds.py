"""What bounds a run, by figures made up for it; `test_slow_stages` has real runs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pipeline.profiling.bounds import Bound, verdict
from pipeline.profiling.collector import Collector
from pipeline.profiling.measures import EngineSlice, Measures, Moment, Span
from pipeline.profiling.profile import Profile

SECONDS = 20
WORKERS = {"read": 2, "render": 4, "generate": 1, "parse": 2, "journal": 8, "commit": 2}


def profile_of(
    *,
    stages: Mapping[str, Mapping[str, float]] | None = None,
    in_flight: float = 5,
    loop: float = 0.1,
    ready: float = 2.0,
    rows: int = 1000,
    rendered_after: float = 0.0,
    until: float = SECONDS,
) -> Profile:
    """A run of `SECONDS` in which each stage worked as many seconds a second and process.

    The stages but the engine's have no rows any more from `until` on.
    """
    collector = Collector(0.0)
    collector.expect(WORKERS, 10)
    spans, slices = [], []
    for second in range(int(ready), SECONDS):
        for stage, steps in (stages or {}).items() if second < until else ():
            seconds = {step: share * WORKERS[stage] for step, share in steps.items()}
            spans.append(Span(stage, second, second + 1, 50, seconds))
        slices.append(
            EngineSlice(
                began=second,
                ended=second + 1,
                in_flight=in_flight,
                empty=float(not in_flight),
                busy=loop,
            )
        )
    spans.append(Span("render", 0.0, 1.0, 500))
    spans.append(Span("generate", 1.0 + rendered_after, SECONDS, 500))
    moments = tuple(Moment(f"{name}_ready", ready) for name in ("renderer", "engine"))
    collector.add(Measures(tuple(spans), tuple(slices), moments))
    profile = collector.profile()
    return Profile(**{**vars(profile), "rows": rows})


@pytest.mark.parametrize(
    ("stage", "step", "bound"),
    [
        ("read", "read", Bound.READ),
        ("read", "pack", Bound.TRANSPORT),
        ("render", "fetch", Bound.FETCH),
        ("render", "decode", Bound.DECODE),
        ("render", "resize", Bound.RESIZE),
        ("render", "tokenise", Bound.TOKENISE),
        ("render", "prepare", Bound.PREPARE),
        ("parse", "parse", Bound.PARSE),
        ("journal", "journal", Bound.JOURNAL),
        ("commit", "commit", Bound.COMMIT),
    ],
)
def test_the_busiest_stages_longest_step(stage: str, step: str, bound: Bound) -> None:
    others = {name: {"unpack": 0.4} for name in WORKERS if name != "generate"}
    found = verdict(profile_of(stages={**others, stage: {step: 0.6, "unpack": 0.2}}))
    assert found.bound is bound
    assert "75% of that" in found.reason


@pytest.mark.parametrize(("until", "bound"), [(12, Bound.FETCH), (9, Bound.HANDOVER)])
def test_what_comes_after_a_stages_last_row_is_the_others_time(until: float, bound: Bound) -> None:
    stages = {"render": {"fetch": 0.8}, "parse": {"parse": 0.3}}
    assert verdict(profile_of(stages=stages, until=until)).bound is bound


def test_an_engine_that_is_full_is_the_bound_whatever_else_is_busy() -> None:
    found = verdict(profile_of(stages={"read": {"read": 0.95}}, in_flight=10))
    assert found.bound is Bound.ENGINE


def test_a_front_end_that_is_always_busy_makes_an_engine_look_full() -> None:
    assert verdict(profile_of(in_flight=20, loop=0.95)).bound is Bound.FRONT_END


def test_too_few_rows() -> None:
    assert verdict(profile_of(rows=8)).bound is Bound.SIZE
    assert verdict(profile_of(rows=8, in_flight=0)).bound is not Bound.SIZE


def test_rows_that_wait_while_the_engine_has_room() -> None:
    found = verdict(profile_of(rendered_after=SECONDS))
    assert found.bound is Bound.HANDOVER


def test_the_start() -> None:
    found = verdict(profile_of(ready=15, in_flight=10))
    assert (found.bound, found.afterwards) == (Bound.START, Bound.ENGINE)
    assert "15.0 s of it until 'renderer ready'). Afterwards: the engine's" in found.sentence
    found = verdict(profile_of(ready=10, in_flight=10))
    assert found.bound is Bound.ENGINE
    assert "The start took 50% of the time, 10.0 s of it until" in found.sentence


@pytest.mark.parametrize(
    ("weights", "told"), [(6.0, "6.0 s of it the engine's weights"), (1.0, "until 'engine ready'")]
)
def test_of_the_engines_start_the_longest_step_is_named(weights: float, told: str) -> None:
    collector = Collector(0.0)
    start = {"imports": 0.5, "weights": weights}
    collector.add(Measures(moments=(Moment("engine_ready", 9.0, start), Moment("placed", 1.0))))
    assert told in verdict(collector.profile()).sentence


def test_a_run_of_which_nothing_is_known_yet() -> None:
    found = verdict(Collector(0.0).profile())
    assert found.afterwards is Bound.NOTHING
