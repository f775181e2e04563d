"""Whole runs on Ray with one stage slowed down on purpose: the profile names it.

What is slow sleeps, so that it takes the same time on a machine that is busy with something else.
How long the start takes depends on the machine, so it is what bounds a run afterwards that is
compared. Yet on a machine that does many other things, whatever was slowed down is no longer the
slowest: most of these run with `make test-long` only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.cli import app as cli
from pipeline import EngineConfig, RunConfig, Task, run, status
from pipeline.engine.interface import Backend
from pipeline.execution import assignment, preparation
from pipeline.execution.driver import Driver
from pipeline.profiling.bounds import Bound, verdict
from pipeline.profiling.profile import STAGES, Profile
from pipeline.sources import open_source
from tests.pipeline.fakes import ColourTask
from tests.pipeline.profiling import slow
from tests.pipeline.sample_images import encoded, plain

ROWS = 64
FEW = 6
QUICK = slow.backend()
TASK = ColourTask()


@pytest.fixture
def profiled(
    tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Profile]:
    """Runs over images of different colours; gives the run's profile."""

    def made(*arguments: Any, pause: float, **settings: Any) -> Any:
        return slow.LateSource(open_source(*arguments, **settings), str(gemma_folder), pause)

    def profile(
        backend: Backend = QUICK, rows: int = ROWS, pause: float = 0.0, task: Task = TASK
    ) -> Profile:
        monkeypatch.setattr(preparation, "open_source", partial(made, pause=pause))
        (tmp_path / "in").mkdir()
        images = [encoded(plain((n + 1, 2, 3), (8, 8)), "PNG") for n in range(rows)]
        pq.write_table(pa.table({"image": images}), tmp_path / "in/a.parquet")
        config = RunConfig(
            input=str(tmp_path / "in"),
            output=str(tmp_path / "out"),
            engine=EngineConfig(model=str(gemma_folder), max_num_seqs=slow.SLOTS),
            unit_rows=16,
            block_rows=slow.BLOCK,
            render_workers=1,
        )
        done = run(config, task, backend=backend)
        assert done.outcomes == {"ok": rows}
        assert done.profile is not None
        assert done.profile.rows == rows
        return done.profile

    return profile


def assert_bound(profile: Profile, bound: Bound) -> None:
    found = verdict(profile)
    assert found.afterwards is bound, found.sentence


@pytest.mark.usefixtures("ray_cluster")
class TestSlowStages:
    @pytest.mark.long
    @pytest.mark.parametrize(
        ("backend", "bound"),
        [
            (slow.SLOW_FETCH, Bound.FETCH),
            (slow.SLOW_DECODE, Bound.DECODE),
            (slow.backend(slow.SlowRenderer), Bound.TOKENISE),
            (slow.backend(engine=slow.SlowEngine), Bound.ENGINE),
            (slow.backend(engine=slow.SlowFrontEnd), Bound.FRONT_END),
        ],
    )
    def test_renderers_and_engines(
        self, profiled: Callable[..., Profile], backend: Backend, bound: Bound
    ) -> None:
        assert_bound(profiled(backend), bound)

    @pytest.mark.long
    @pytest.mark.parametrize(
        ("task", "bound"),
        [
            (slow.SlowPreparation(), Bound.PREPARE),
            (slow.SlowResults(), Bound.PARSE),
            (slow.SlowTransport(), Bound.TRANSPORT),
        ],
    )
    def test_a_task(self, profiled: Callable[..., Profile], task: Task, bound: Bound) -> None:
        profile = profiled(task=task)
        assert_bound(profile, bound)
        parse = profile.stages["parse"]
        could = parse.rows * parse.workers / parse.busy
        assert could <= 1 / slow.ROW_S or bound is not Bound.PARSE

    @pytest.mark.long
    def test_the_driver(
        self, profiled: Callable[..., Profile], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        take = Driver._take

        def slowly(driver: Driver, *arguments: Any) -> None:
            time.sleep(slow.BLOCK_S / 2)
            take(driver, *arguments)

        monkeypatch.setattr(Driver, "_take", slowly)
        assert_bound(profiled(), Bound.RECEIPTS)

    @pytest.mark.long
    def test_the_store_of_the_input(self, profiled: Callable[..., Profile]) -> None:
        assert_bound(profiled(pause=slow.BLOCK_S), Bound.READ)

    @pytest.mark.long
    @pytest.mark.parametrize(
        ("part", "slow_part", "rows", "bound"),
        [
            ("Journal", slow.SlowJournal, 3 * ROWS, Bound.JOURNAL),
            ("NewParts", slow.SlowCommits, ROWS, Bound.COMMIT),
        ],
    )
    def test_the_store_of_the_output(
        self,
        profiled: Callable[..., Profile],
        monkeypatch: pytest.MonkeyPatch,
        part: str,
        slow_part: type,
        rows: int,
        bound: Bound,
    ) -> None:
        monkeypatch.setattr(assignment, part, slow_part)
        assert_bound(profiled(rows=rows), bound)

    @pytest.mark.long
    def test_an_input_that_does_not_fill_the_engine(self, profiled: Callable[..., Profile]) -> None:
        assert_bound(profiled(slow.backend(engine=slow.LongAnswers), FEW), Bound.SIZE)

    @pytest.mark.long
    def test_the_start(self, profiled: Callable[..., Profile]) -> None:
        found = verdict(profiled(slow.backend(engine=slow.SlowStart), FEW))
        assert found.bound is Bound.START, found.sentence

    def test_what_is_shown_and_recorded(
        self, profiled: Callable[..., Profile], tmp_path: Path
    ) -> None:
        profile = profiled(slow.backend(engine=slow.SlowStart), FEW)
        assert profile.moments["engine_ready"] >= slow.SLOW_START_S
        record = json.loads((tmp_path / "out/_gemma3_batch/run.json").read_text())
        assert record["profile"] == profile.to_json()
        assert status(str(tmp_path / "out")).profile == Profile.from_json(record["profile"])
        assert not (tmp_path / "out/_gemma3_batch/profiles").exists()
        assert [profile.stages[stage].rows for stage in STAGES] == [FEW] * len(STAGES)
        assert [*profile.moments][-4:] == [
            "first_given", "first_answered", "first_journalled", "first_committed",
        ]  # fmt: skip
        shown = CliRunner().invoke(cli.app, ["status", str(tmp_path / "out"), "--profile"])
        assert shown.exit_code == 0, shown.output
        assert f"{FEW} of {FEW} rows" in shown.output
        assert verdict(profile).sentence[:30] in shown.output
        for told in (*STAGES, "driver", "engine ready", "of it weights", "rows/s finished"):
            assert told in shown.output
