"""What the driver makes of measurements."""

from __future__ import annotations

import json

import pytest

from pipeline.profiling.collector import Collector
from pipeline.profiling.measures import EngineSlice, Measures, Moment, Span
from pipeline.profiling.profile import Profile
from pipeline.profiling.series import MOST_POINTS

BEGAN = 1000.0


def collected(*spans: Span, slices: tuple[EngineSlice, ...] = ()) -> Collector:
    collector = Collector(BEGAN)
    collector.expect({"render": 2, "generate": 2}, 10)
    collector.add(Measures(spans=spans, slices=slices))
    return collector


def test_rows_are_where_they_are_at_each_time() -> None:
    profile = collected(
        Span("read", BEGAN, BEGAN + 1, 32, {"read": 1.0}, 1000),
        Span("render", BEGAN + 2.05, BEGAN + 3.05, 32, {"decode": 0.75, "pack": 0.25}),
        Span("generate", BEGAN + 3.55, BEGAN + 5, 32),
    ).profile()
    series = profile.series

    def at(name: str, second: float) -> float:
        return series[name][int(second / profile.every)]

    assert [at("inside.read", second) for second in (0.5, 1.5)] == [32, 0]
    assert [at("before.render", second) for second in (0.5, 1.5, 2.1)] == [0, 32, 0]
    assert [at("inside.render", second) for second in (1.5, 2.5, 3.1)] == [0, 32, 0]
    assert [at("before.generate", second) for second in (2.5, 3.2, 3.6)] == [0, 32, 0]
    assert at("busy.render", 2.6) == pytest.approx(1)
    assert sum(series["rows.read"]) * profile.every == 32
    assert profile.stages["render"].seconds == {"decode": 0.75, "pack": 0.25}
    assert (profile.stages["read"].size, profile.stages["render"].workers) == (1000, 2)
    assert profile.moments == {"first_rendered": pytest.approx(3.05)}
    assert profile.seconds == 5


def slice_of(began: float, in_flight: float, **fields: float) -> EngineSlice:
    ended = began + 1
    return EngineSlice(
        began=BEGAN + began, ended=BEGAN + ended, in_flight=in_flight, empty=0, **fields
    )  # type: ignore[arg-type]


def test_engines_are_added_up() -> None:
    slices = (slice_of(1, 10), slice_of(1, 4, busy=0.5), slice_of(2, 10), slice_of(2, 0))
    profile = collected(slices=slices).profile()
    engine = profile.engine
    assert (engine.engines, engine.slots, engine.seconds) == (2, 10, pytest.approx(4))
    assert (engine.in_flight, engine.full, engine.loop_busy) == pytest.approx((6, 0.5, 0.125))
    second = int(1.5 / profile.every)
    assert profile.series["engine.in_flight"][second] == pytest.approx(14)
    assert profile.series["engine.full"][second] == pytest.approx(1)
    told = collected(slices=(slice_of(1, 10, slots=64),)).profile().engine
    assert (told.slots, told.full) == (64, 0)


def test_of_a_step_of_the_start_the_first_counts_and_of_its_parts_the_longest() -> None:
    collector = Collector(BEGAN)
    for at, took in ((9.0, 3.0), (5.0, 4.0), (7.0, 2.0)):
        moment = Moment("engine_ready", BEGAN + at, {"weights": took})
        collector.add(Measures(moments=(moment,)))
    profile = collector.profile()
    assert profile.moments == {"engine_ready": 5}
    assert profile.engine.start == {"weights": 4}


def test_a_profile_is_json_and_short_however_long_the_run() -> None:
    spans = [
        Span("parse", BEGAN + hour * 3600, BEGAN + hour * 3600 + 0.333333, 32, {"journal": 1 / 3})
        for hour in range(1000)
    ]
    profile = collected(*spans, slices=(slice_of(3, 1 / 3),)).profile()
    text = json.dumps(profile.to_json())
    assert all(len(points) <= MOST_POINTS for points in profile.series.values())
    assert len(text) < 30_000
    again = Profile.from_json(json.loads(text))
    assert again is not None
    assert again.to_json() == json.loads(text)
    assert again.stages["parse"].rows == 32_000
    assert Profile.from_json({}) is None
    assert Profile.from_json({"format": 0}) is None
