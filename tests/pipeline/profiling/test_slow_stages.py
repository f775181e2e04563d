"""Whole runs on Ray with one stage slowed down on purpose: the profile names it.

What is slow sleeps, so that it takes the same time on a machine that is busy with something else.
How long the start takes depends on the machine, so it is what bounds a run afterwards that is
compared, but where the start is the slow one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs import cli
from pipeline import EngineConfig, RunConfig, run, status
from pipeline import run as run_module
from pipeline.engine.interface import Backend
from pipeline.execution import preparation
from pipeline.profiling.bounds import Bound, verdict
from pipeline.profiling.profile import STAGES, Profile
from pipeline.sources import Source, open_source
from tests.pipeline.fakes import ColourTask
from tests.pipeline.profiling import slow
from tests.pipeline.sample_images import encoded, plain

ROWS = 64
FEW = 6


def profiled(
    folder: Path, model: Path, backend: Backend | None = None, rows: int = ROWS
) -> Profile:
    """Run over images of different colours; gives the run's profile."""
    (folder / "in").mkdir()
    images = [encoded(plain((n + 1, 2, 3), (8, 8)), "PNG") for n in range(rows)]
    pq.write_table(pa.table({"image": images}), folder / "in/a.parquet")
    config = RunConfig(
        input=str(folder / "in"),
        output=str(folder / "out"),
        engine=EngineConfig(model=str(model), max_num_seqs=slow.SLOTS),
        unit_rows=16,
        block_rows=slow.BLOCK,
        render_workers=1,
    )
    run(config, ColourTask(), backend=backend or slow.backend())
    found = status(str(folder / "out")).profile
    assert found is not None
    assert found.rows == rows
    return found


def slow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_slow(*arguments: object, **settings: object) -> Source:
        return slow.SlowSource(open_source(*arguments, **settings))  # type: ignore

    monkeypatch.setattr(preparation, "open_source", open_slow)


def slow_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "Journal", slow.SlowJournal)


def slow_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "NewParts", slow.SlowCommits)


@pytest.mark.usefixtures("ray_cluster")
class TestSlowStages:
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
        self, tmp_path: Path, gemma_folder: Path, backend: Backend, bound: Bound
    ) -> None:
        profile = profiled(tmp_path, gemma_folder, backend)
        assert verdict(profile).afterwards is bound, verdict(profile).sentence

    @pytest.mark.parametrize(
        ("slow_down", "bound"),
        [
            (slow_reads, Bound.READ),
            (slow_journal, Bound.JOURNAL),
            (slow_commits, Bound.COMMIT),
        ],
    )
    def test_stores(
        self,
        tmp_path: Path,
        gemma_folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        slow_down: Callable[[pytest.MonkeyPatch], None],
        bound: Bound,
    ) -> None:
        slow_down(monkeypatch)
        profile = profiled(tmp_path, gemma_folder)
        assert verdict(profile).afterwards is bound, verdict(profile).sentence

    def test_an_input_that_does_not_fill_the_engine(
        self, tmp_path: Path, gemma_folder: Path
    ) -> None:
        profile = profiled(tmp_path, gemma_folder, slow.backend(engine=slow.LongAnswers), FEW)
        assert verdict(profile).afterwards is Bound.SIZE, verdict(profile).sentence

    def test_the_start_and_what_is_shown_and_recorded_of_it(
        self, tmp_path: Path, gemma_folder: Path
    ) -> None:
        profile = profiled(tmp_path, gemma_folder, slow.backend(engine=slow.SlowStart), FEW)
        found = verdict(profile)
        assert found.bound is Bound.START, found.sentence
        assert "s of it the engine's weights" in found.sentence
        record = json.loads((tmp_path / "out/_gemma3_batch/run.json").read_text())
        assert Profile.from_json(record["profile"]) == profile
        assert not (tmp_path / "out/_gemma3_batch/profiles").exists()
        assert [profile.stages[stage].rows for stage in STAGES] == [FEW] * len(STAGES)
        assert [*profile.moments][-4:] == [
            "first_given", "first_answered", "first_journalled", "first_committed",
        ]  # fmt: skip
        shown = CliRunner().invoke(cli.app, ["status", str(tmp_path / "out"), "--profile"])
        assert shown.exit_code == 0, shown.output
        assert f"{FEW} of {FEW} rows" in shown.output
        assert "What bounds this run: the start" in shown.output
        for told in (*STAGES, "driver", "engine ready", "of it weights", "rows/s finished"):
            assert told in shown.output
