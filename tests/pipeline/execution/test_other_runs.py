"""A second run into an OUTPUT at which another one is at work, before it starts anything."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline import UserError, retry, run
from pipeline.execution.assignment import all_units
from pipeline.execution.driver import Driver
from pipeline.execution.preparation import check_run
from pipeline.output.heartbeat import Others, turn
from pipeline.output.journal import entry_schema
from pipeline.output.plan import open_plan
from pipeline.sources.units import Work
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


@pytest.mark.usefixtures("ray_cluster")
def test_what_another_run_finishes_meanwhile_is_left_out(
    tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours_dataset(tmp_path / "in", 60)
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, unit_rows=10)

    class Second(Driver):
        """Another driver finishes some units once this one has begun."""

        def drive(self, work: Iterable[Work]) -> None:
            todo = [*work]
            for piece in todo[1:4]:
                rows = [{"position": n, "outcome": "truncated"} for n in range(piece.rows)]
                schema = entry_schema(ColourTask().result_schema)
                self._journal.append(piece.unit.id, pa.Table.from_pylist(rows, schema=schema))
                self._committer.commit(piece)
            super().drive(todo)

    monkeypatch.setattr(run_module, "Driver", Second)
    result = run(settings, ColourTask(), backend=FAKE)
    assert (result.rows, result.new_rows) == (60, 30)
    assert result.outcomes == {"ok": 30, "truncated": 30}


def test_one_that_joins_takes_another_order(tmp_path: Path, gemma_folder: Path) -> None:
    colours_dataset(tmp_path / "in", 60)
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, unit_rows=1, join=True)
    output, checked = locate(settings.output), check_run(settings, ColourTask(), FAKE)
    with ExitStack() as stack:
        first = stack.enter_context(turn(output, "run", Others(output, print)))
        alone = stack.enter_context(all_units(checked, first))
        second = stack.enter_context(turn(output, "run", Others(output, print), joins=True))
        planned = replace(checked, plan=open_plan(output), changes=None)
        beside = stack.enter_context(all_units(planned, second))
        one, other = ([piece.unit.index for piece in mine.work] for mine in (alone, beside))
    assert one == [*range(60)]
    assert other != one
    assert sorted(other) == one


def test_who_joins_is_not_alone(tmp_path: Path, gemma_folder: Path) -> None:
    colours_dataset(tmp_path / "in", 10)
    fields = {"join": True, "single_driver": True}
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, **fields)
    with pytest.raises(UserError, match="join: excludes single_driver"):
        run(settings, ColourTask(), backend=FAKE)
    assert not (tmp_path / "out").exists()
