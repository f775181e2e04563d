"""A plan with engines that only answer: what it says, what it leaves, and what it cannot do."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from jobs.forecast import planning
from jobs.forecast.capacity import capacity_of
from jobs.forecast.forecast import Forecast
from jobs.forecast.other_load import OtherLoad
from jobs.forecast.planning import Asked, kept_plan, plan_run
from jobs.forecast.stored import compared, load, place_of, save
from jobs.registry import JOBS
from jobs.sdk.assembly import configure
from pipeline import EngineConfig, RunConfig, UserError, run
from pipeline.contract.errors import RunError
from pipeline.engine.interface import Backend
from pipeline.execution.preparation import check_run
from pipeline.storage.location import locate
from tests.jobs.forecast.made import forecast as made
from tests.pipeline.execution.test_run import colours_dataset
from tests.pipeline.fakes import FAKE, ColourTask, FakeEngine, FakeRenderer
from tests.stores import S3

ROWS = 600
BAD_SHARE = 0.2


def settings(root: Path, model: Path, **more: object) -> RunConfig:
    values = {"input": str(root / "in"), "output": str(root / "out"), **more}
    return RunConfig(
        engine=EngineConfig(model=str(model), max_num_seqs=16),
        unit_rows=100,
        block_rows=10,
        render_workers=1,
        **values,  # type: ignore[arg-type]
    )


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("ray_cluster")
def test_a_plan_says_what_the_run_then_does(tmp_path: Path, gemma_folder: Path) -> None:
    records = colours_dataset(tmp_path / "in", ROWS, BAD_SHARE)
    config = settings(tmp_path, gemma_folder)
    before = entries(tmp_path)
    forecast = plan_run(config, ColourTask(), Asked(pilot_rows=200, price=2.0), backend=FAKE)
    assert entries(tmp_path) == {*before, "out.plan.json"}, "OUTPUT is not begun, the pilot is gone"
    assert (forecast.rows, forecast.units, forecast.pilot_rows) == (ROWS, 8, 200)
    failed = sum(record["outcome"] != "ok" for record in records) / ROWS
    assert failed in forecast.failed.interval
    assert forecast.failed.interval.high - forecast.failed.interval.low < 0.2
    wanted = {record["outcome"] for record in records} - {"ok"}
    assert {*forecast.failures} == wanted
    assert all(found.reasons for found in forecast.failures.values())
    assert len(forecast.samples) == 10
    assert sum(row["outcome"] != "ok" for row in forecast.samples) == 3
    assert 0 < forecast.time.start < forecast.time.seconds
    assert forecast.time.seconds in forecast.time.interval
    assert forecast.cost is not None
    assert forecast.cost.high == pytest.approx(forecast.hours.high * 2)

    kept = json.loads((tmp_path / "out.plan.json").read_text())
    assert Forecast.from_json(kept) == Forecast.from_json(forecast.to_json())
    checked = check_run(config, ColourTask(), FAKE)
    assert load(checked.output, checked.record) is not None
    other = check_run(config, ColourTask(prompt="What colour?"), FAKE)
    assert load(other.output, other.record) is None

    done = run(config, ColourTask(), backend=FAKE)
    line = compared(done)
    assert line is not None
    assert line.startswith("planned ")
    assert f"% failed, {100 * failed:.0f} %" in line
    size = sum(part.stat().st_size for part in (tmp_path / "out").glob("*.parquet"))
    assert forecast.size == pytest.approx(size, rel=0.3)
    with pytest.raises(UserError, match="has all rows of INPUT"):
        plan_run(config, ColourTask(), Asked(), backend=FAKE)


def test_the_plan_of_an_input_that_has_grown_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "backend_of", lambda _: FAKE)
    colours_dataset(tmp_path / "in", 100)
    job = configure(JOBS["caption"], {"model": "demo"})
    place = str(tmp_path / "in"), str(tmp_path / "out")
    checked = check_run(job.run_config(*place), job.task(), FAKE)
    save(made(rows=100, units=5, record=checked.record), checked.output)
    assert kept_plan(job, *place) is not None
    shutil.copy(tmp_path / "in/000.parquet", tmp_path / "in/later.parquet")
    assert kept_plan(job, *place) is None


@pytest.mark.usefixtures("ray_cluster")
def test_a_plan_beside_others_says_so(
    tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = OtherLoad(all=3.0, own=1.0, offered=4.0)
    shared = partial(dataclasses.replace, shares_cpus=True)
    monkeypatch.setattr(planning, "other_load", lambda: contextlib.nullcontext(half))
    monkeypatch.setattr(planning, "capacity_of", lambda *given: shared(capacity_of(*given)))
    colours_dataset(tmp_path / "in", ROWS, BAD_SHARE)
    config = settings(tmp_path, gemma_folder)
    forecast = plan_run(config, ColourTask(), Asked(pilot_rows=200), backend=FAKE)
    assert "Others used 50% of this machine's CPUs during the pilot" in forecast.warnings[0]
    time = forecast.time
    flowing = time.seconds - time.once
    assert time.interval.high - time.seconds > 1.96 * 0.5 * flowing


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_what_is_left_of_a_run_is_planned(tmp_path: Path, gemma_folder: Path) -> None:
    colours_dataset(tmp_path / "in", 300)
    run(settings(tmp_path, gemma_folder), ColourTask(), backend=FAKE)
    (tmp_path / "more").mkdir()
    colours_dataset(tmp_path / "more/in", 150)
    (tmp_path / "more/in/000.parquet").rename(tmp_path / "in/0005.parquet")  # between the others
    forecast = plan_run(
        settings(tmp_path, gemma_folder), ColourTask(), Asked(pilot_rows=40), backend=FAKE
    )
    assert (forecast.rows, forecast.there, forecast.pilot_rows) == (150, 300, 40)
    assert "OUTPUT has 300 rows already" in forecast.warnings[0]
    done = run(settings(tmp_path, gemma_folder), ColourTask(), backend=FAKE)
    assert done.new_rows == 150
    assert "took" in (compared(done) or "")


class DeadEngine(FakeEngine):
    """Cannot start."""

    def __init__(self, config: EngineConfig) -> None:
        raise UserError("the fake engine cannot start")


@pytest.mark.usefixtures("ray_cluster")
def test_a_pilot_that_cannot_be_run_leaves_nothing(tmp_path: Path, gemma_folder: Path) -> None:
    colours_dataset(tmp_path / "in", 100)
    before = entries(tmp_path)
    dead = Backend(name="fake", renderer=FakeRenderer, engine=DeadEngine)
    with pytest.raises((UserError, RunError), match="cannot start"):
        plan_run(settings(tmp_path, gemma_folder), ColourTask(), Asked(), backend=dead)
    assert entries(tmp_path) == before


@pytest.mark.usefixtures("ray_cluster")
def test_a_plan_on_an_object_store(s3: S3, tmp_path: Path, gemma_folder: Path) -> None:
    colours_dataset(tmp_path / "in", 200, BAD_SHARE)
    root = locate(f"s3://{s3.bucket()}/data", s3.options)
    root.fs.put(f"{tmp_path}/in/", f"{root.path}/in/", recursive=True)
    where = {"input": f"{root}/in", "output": f"{root}/out", "storage_options": s3.options}
    config = settings(tmp_path, gemma_folder, **where)
    forecast = plan_run(config, ColourTask(), Asked(pilot_rows=60), backend=FAKE)
    assert forecast.output == f"{root}/out"
    names = {file.path.partition("/")[0] for file in root.tree()}
    assert names == {"in", "out.plan.json"}
    secrets = (s3.secret, s3.key)
    assert not any(secret in place_of(root / "out").read().decode() for secret in secrets)
    assert compared(run(config, ColourTask(), backend=FAKE)) is not None

    absent = config.model_copy(update={"output": "s3://no-such-bucket-at-all/out"})
    with pytest.raises((UserError, RunError, OSError), match="no-such-bucket"):
        plan_run(absent, ColourTask(), Asked(pilot_rows=20), backend=FAKE)
    gone = config.model_copy(update={"input": f"{root}/nothing", "output": f"{root}/out2"})
    with pytest.raises(UserError, match="does not exist"):
        plan_run(gone, ColourTask(), Asked(), backend=FAKE)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(pilot_rows=0), "pilot_rows: should be at least 1"),
        (Asked(replicas=0), "replicas: should be at least 1"),
        (Asked(price=-1.0), "price: should not be negative"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: Asked, message: str) -> None:
    with pytest.raises(UserError, match=message):
        asked.check()
