"""A forecast is kept beside OUTPUT, for the run with the same record, and compared with it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.forecast.forecast import Forecast
from jobs.forecast.stored import (
    comparison,
    duration,
    is_current,
    load,
    percents,
    place_of,
    save,
)
from pipeline import RunResult, UserError
from pipeline.profiling.profile import EngineProfile, Profile
from pipeline.sources.units import Cut
from pipeline.storage.location import locate
from tests.jobs.forecast.made import RECORD, forecast


def test_a_forecast_comes_back_as_it_was(tmp_path: Path) -> None:
    output = locate(str(tmp_path / "out"))
    where = save(forecast(), output)
    assert str(where) == f"{tmp_path}/out.plan.json"
    assert [path.name for path in tmp_path.iterdir()] == ["out.plan.json"]
    assert load(output, RECORD) == forecast(
        samples=json.loads(json.dumps(forecast().to_json()["samples"]))
    )
    assert str(place_of(locate(f"{tmp_path}/out/"))) == f"{tmp_path}/out.plan.json"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("settings", "prompt"), "Another one."),
        (("input",), "/data/other"),
        (("model", "identity"), "def"),
        (("config", "prefix"), "gemma_"),
    ],
)
def test_it_is_for_the_same_run_only(tmp_path: Path, path: tuple[str, ...], value: str) -> None:
    output = locate(str(tmp_path / "out"))
    save(forecast(), output)
    other = copy.deepcopy(RECORD)
    place: Any = other
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    assert load(output, RECORD) is not None
    assert load(output, other) is None


def cuts(*rows: int) -> list[Cut]:
    return [Cut(files=(f"{at}",), start=0, stop=count) for at, count in enumerate(rows)]


@pytest.mark.parametrize(
    ("left", "there", "is_so"),
    [
        (cuts(1000, 1000), 0, True),
        (cuts(1000, 950), 50, True),  # a little of it is done
        (cuts(1000, 500), 500, False),
        (cuts(1000, 1000), 2000, False),  # it is done, and as much came to INPUT
        (cuts(1000, 1000, 1000), 0, False),
        ([], 2000, False),
    ],
)
def test_it_is_for_the_same_rows_only(left: list[Cut], there: int, is_so: bool) -> None:
    assert is_current(forecast(), left, there) == is_so


def test_of_rows_that_lack_a_value_there_are_fewer_than_are_read() -> None:
    config = {**RECORD["config"], "missing": "caption"}
    kept = forecast(rows=40, record={**RECORD, "config": config})
    assert is_current(kept, cuts(1000, 1000), 0)
    assert not is_current(kept, cuts(1000, 1000, 1000), 0)
    assert not is_current(kept, cuts(20, 10), 0)
    assert not is_current(forecast(rows=40), cuts(1000, 1000), 0)


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"format": 1}', '{"format": 99}'])
def test_what_is_no_forecast_is_none(tmp_path: Path, body: str) -> None:
    (tmp_path / "out.plan.json").write_text(body)
    assert load(locate(str(tmp_path / "out")), RECORD) is None


def test_there_may_be_none_and_no_place_for_one(tmp_path: Path) -> None:
    assert load(locate(str(tmp_path / "out")), RECORD) is None
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"out\.plan\.json cannot be written"):
        save(forecast(), locate(str(tmp_path / "file/out")))


def test_a_bucket_has_nothing_beside_it() -> None:
    options = {"s3": {"endpoint_url": "http://127.0.0.1:1"}}
    assert str(place_of(locate("s3://bucket/out/", options))) == "s3://bucket/out.plan.json"
    inside = "s3://bucket/_gemma3_batch/plan.json"
    assert str(place_of(locate("s3://bucket", options))) == inside


def result(seconds: float, failed: int, *, engines: int = 2, new_rows: int = 2000) -> RunResult:
    engine = EngineProfile(engines=engines, slots=64)
    profile = Profile(
        began=0, seconds=1, rows=1, moments={}, stages={}, engine=engine, every=1, series={}
    )
    return RunResult(
        output="/data/out",
        rows=2000,
        outcomes={"ok": 2000 - failed, "decode_error": failed},
        duplicates=0,
        new_rows=new_rows,
        model_class=None,
        seconds=seconds,
        rows_per_second=1.0,
        profile=profile,
    )


def test_a_run_is_compared_in_a_line() -> None:
    line = comparison(forecast(), result(780.0, 28))
    assert line == "planned 12 min, took 13 min; planned 1.0 to 2.1 % failed, 1.4 %"


def test_the_time_of_other_engines_or_of_a_part_is_not_compared() -> None:
    failed = "planned 1.0 to 2.1 % failed, 0 %"
    assert comparison(forecast(), result(780.0, 0, engines=1)) == failed
    assert comparison(forecast(), result(80.0, 0, new_rows=100)) == failed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (119.0, "119 s"),
        (150.0, "2.5 min"),
        (3000.0, "50 min"),
        (7300.0, "2.0 h"),
        (400_000.0, "4.6 days"),
    ],
)
def test_times_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_small_shares_do_not_look_like_none() -> None:
    assert percents(0.0, 0.0004) == "0 to 0.04"
    assert percents(0.0012, 0.25) == "0.1 to 25"


def test_another_format_is_none() -> None:
    assert Forecast.from_json({**forecast().to_json(), "format": 2}) is None
    assert replace(forecast(), price=None).cost is None
    cost = forecast().cost
    assert cost is not None
    assert (cost.low, cost.high) == pytest.approx((1.08, 1.32))
