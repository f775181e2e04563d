"""How many engines a run and its pilot have, and what bounds many of them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from jobs.forecast import capacity
from jobs.forecast.capacity import DRIVING, RENDERING, Capacity, capacity_of, limit_of
from pipeline import ColumnKind, EngineConfig, RunConfig, UserError
from pipeline.execution.placement import place
from pipeline.profiling.profile import EngineProfile, Profile, StageProfile
from tests.pipeline.fakes import FAKE
from tests.speed.feed import ModelTask

TEXT = ModelTask("text", ColumnKind.TEXT)
IMAGE = ModelTask("image", ColumnKind.IMAGE)


def config(*, images: bool = False, **more: object) -> RunConfig:
    engine = EngineConfig(model="demo", has_images=images)
    return RunConfig(input="in", output="out", engine=engine, **more)  # type: ignore[arg-type]


def on(gpus: int, cpus: int = 64, **more: object) -> Capacity:
    resources = {"CPU": float(cpus), "GPU": float(gpus)}
    return Capacity(resources=resources, placement=place(config(**more), resources))


def profile(rows: int, render_seconds: float) -> Profile:
    render = StageProfile(rows=rows, seconds={"decode": render_seconds}, workers=16)
    return Profile(
        began=0,
        seconds=1,
        rows=rows,
        moments={},
        stages={"render": render},
        engine=EngineProfile(engines=1, slots=1024),
        every=1,
        series={},
    )


def test_a_pilot_on_gpus_has_one_engine_and_fills_it() -> None:
    found = on(8)
    assert (found.placement.engines, found.engines, found.gpus) == (8, 1, 1)
    assert found.pilot_rows == 4 * 1024
    assert on(8, images=True).pilot_rows == 4 * 256


def test_engines_on_cpus_share_them_so_a_pilot_has_all() -> None:
    found = on(0, engine_replicas=3)
    assert (found.engines, found.gpus) == (3, 0)
    assert on(0).pilot_rows == 400


def test_as_many_engines_as_the_pilot_had_are_not_bounded() -> None:
    assert limit_of(config(), TEXT, profile(400, 1), on(1), replicas=1, rows=10**6) == (
        math.inf,
        "",
    )


def test_rendering_bounds_many_engines_on_few_cpus() -> None:
    """Four engines, 11 renderers (16 CPUs without 4 and one), 0.1 s a row."""
    found = limit_of(
        config(images=True), IMAGE, profile(400, 40.0), on(4, cpus=16), replicas=4, rows=10**6
    )
    assert found == (pytest.approx(110.0), RENDERING)


def test_more_machines_bring_their_cpus() -> None:
    """A hundred times four engines: 1,600 CPUs without 400 and one."""
    found = limit_of(
        config(images=True), IMAGE, profile(400, 40.0), on(4, cpus=16), replicas=400, rows=10**8
    )
    assert found == (pytest.approx(35 * 32), DRIVING)
    slower = limit_of(
        config(images=True), IMAGE, profile(400, 4000.0), on(4, cpus=16), replicas=400, rows=10**8
    )
    assert slower == (pytest.approx(119.9), RENDERING)


def test_a_server_is_no_gpu_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "_resources", lambda: ({"CPU": 8.0, "GPU": 4.0}, [4]))
    assert capacity_of(config(), FAKE).gpus == 1
    assert capacity_of(config(), dataclasses.replace(FAKE, holds_gpus=False)).gpus == 0
    with pytest.raises(UserError, match="asked for, the cluster has 4"):
        capacity_of(config(engine_replicas=5), FAKE)


@pytest.mark.parametrize(
    ("visible", "gpus"), [(None, 8), ("0", 1), ("2,3", 2), ("", 0), ("GPU-1, GPU-2,", 2)]
)
def test_gpus_that_are_hidden_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, gpus: int
) -> None:
    for number in range(8):
        (tmp_path / str(number)).mkdir()
    monkeypatch.setattr(capacity, "GPUS", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert capacity._own_gpus() == gpus
