"""A second run into an OUTPUT at which another one is at work, before it starts anything."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from pipeline import UserError, retry, run
from pipeline.output.heartbeat import Others, turn
from pipeline.storage.location import locate
from tests.pipeline.execution.test_run import colours_dataset, config
from tests.pipeline.fakes import FAKE, ColourTask

run_module = importlib.import_module("pipeline.run")  # `pipeline.run` itself is the function


@pytest.fixture
def ray_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(**_: object) -> None:
        pytest.fail("Ray is started")

    monkeypatch.setattr(run_module, "cluster", start)


@pytest.mark.usefixtures("ray_stays_off")
def test_a_second_run_is_told_of_the_first(tmp_path: Path, gemma_folder: Path) -> None:
    colours_dataset(tmp_path / "in", 10)
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder)
    output = locate(settings.output)
    with turn(output, "run", Others(output, print)):
        before = sorted((tmp_path / "out").rglob("*"))
        with pytest.raises(UserError, match=r"another run is at work there: a run, since .*--join"):
            run(settings, ColourTask(), backend=FAKE)
        assert sorted((tmp_path / "out").rglob("*")) == before


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_that_joins_works_beside_the_first(tmp_path: Path, gemma_folder: Path) -> None:
    colours_dataset(tmp_path / "in", 10)
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, join=True)
    output = locate(settings.output)
    with turn(output, "run", Others(output, print)):
        assert run(settings, ColourTask(), backend=FAKE).rows == 10
        alone = settings.model_copy(update={"join": False})
        assert run(alone, ColourTask(), backend=FAKE).new_rows == 0  # there is nothing to do
        assert retry(alone, ColourTask(), ["missing_input"], backend=FAKE).new_rows == 0


def test_who_joins_is_not_alone(tmp_path: Path, gemma_folder: Path) -> None:
    colours_dataset(tmp_path / "in", 10)
    fields = {"join": True, "single_driver": True}
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, **fields)
    with pytest.raises(UserError, match="join: excludes single_driver"):
        run(settings, ColourTask(), backend=FAKE)
    assert not (tmp_path / "out").exists()
