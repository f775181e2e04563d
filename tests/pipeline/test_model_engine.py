"""The model of an engine keeps its own time, and what it notes says how full it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline import ColumnKind, EngineConfig, RunConfig, run
from tests.pipeline.model_engine import Device, Step, Steps, model_backend, used
from tests.speed.feed import ModelTask

DEVICE = Device(slots=2, step_s=1.0, tokens=3)


def test_rows_take_a_step_for_each_token_and_wait_for_a_slot() -> None:
    steps = Steps(DEVICE)
    for row, tokens in enumerate((2, 3, 1)):
        steps.add(row, tokens, now=10.0)
    taken = [steps.take() for _ in range(3)]
    assert taken == [
        (Step(11.0, 1.0, 2, 0), []),
        (Step(12.0, 1.0, 2, 1), [0]),
        (Step(13.0, 1.0, 2, 2), [1, 2]),
    ]
    assert steps.due() is None
    steps.add(3, 1, now=20.0)
    assert steps.take() == (Step(21.0, 1.0, 1, 1), [3])


def test_lengths_are_spread_as_asked() -> None:
    device = dataclasses.replace(DEVICE, tokens=100, spread=0.5)
    lengths = [device.length(str(key)) for key in range(1000)]
    assert (min(lengths), max(lengths)) == (50, 150)
    assert sum(lengths) / 1000 == pytest.approx(100, abs=2)
    assert device.length("7") == device.length("7")


def test_how_full_engines_were_is_told_from_their_steps(tmp_path: Path) -> None:
    """Two engines of two slots: one is full, the other has one row, or none for two seconds."""
    full = [(at, 1.0, 2, 2) for at in range(1, 101)]
    half = [(at, 1.0, 1, 1) for at in range(1, 101) if at not in (50, 51)]
    for name, steps in {"a": full, "b": half}.items():
        lines = (" ".join(map(str, step)) + "\n" for step in steps)
        (tmp_path / f"{name}.steps").write_text("".join(lines))
    use = used(tmp_path, DEVICE)
    assert (use.engines, use.rows, use.seconds) == (2, 298, 100)
    assert (use.idle_s, use.longest_idle_s) == (2, 2)
    assert use.used == pytest.approx((90 * 2 + 88) / (90 * 4), abs=0.01)


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_with_model_engines_answers_every_row(tmp_path: Path, gemma_folder: Path) -> None:
    """What `tests.speed.feed` measures, small; two engines share the rows."""
    (tmp_path / "in").mkdir()
    (tmp_path / "log").mkdir()
    texts = [f"row {n}" for n in range(400)]
    pq.write_table(pa.table({"value": texts}), tmp_path / "in/a.parquet")
    device = Device(slots=16, step_s=0.01, tokens=20, spread=0.5, log=tmp_path / "log")
    config = RunConfig(
        input=str(tmp_path / "in"),
        output=str(tmp_path / "out"),
        engine=EngineConfig(model=str(gemma_folder), max_num_seqs=16),
        engine_replicas=2,
        render_workers=1,
    )
    result = run(config, ModelTask("value", ColumnKind.TEXT), backend=model_backend(device))
    assert result.outcomes == {"ok": 400}
    assert ds.dataset(tmp_path / "out").to_table()["value"].to_pylist() == texts
    use = used(tmp_path / "log", device)
    assert use.rows == 400
    assert use.engines == 2
