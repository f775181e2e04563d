"""A retry is as careful as a run: it probes, fences, drains, resumes and cleans up."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import RunConfig, RunError, UserError, retry, run, status
from pipeline.execution.driver import Driver
from pipeline.output import heartbeat
from pipeline.output.fencing import Epoch, begin_epoch
from pipeline.output.journal import OF_RETRIES, Journal, entry_schema
from pipeline.output.plan import open_plan
from pipeline.sources.units import Work
from pipeline.storage import atomic
from pipeline.storage.location import Location, locate
from tests.pipeline.execution.test_run import config, read_back
from tests.pipeline.fakes import FAKE, ColourTask
from tests.pipeline.sample_images import encoded, plain

run_module = importlib.import_module("pipeline.run")  # `pipeline.run` itself is the function
COLOUR = (1, 2, 3)

pytestmark = pytest.mark.usefixtures("ray_cluster")


def write_image(path: Path) -> None:
    path.write_bytes(encoded(plain(COLOUR), "PNG"))


def with_missing_images(folder: Path, model: Path, rows: int) -> RunConfig:
    """A finished run whose rows all failed, as `a.png` and `b.png` are not there yet."""
    (folder / "in").mkdir()
    images = ["a.png" if number % 2 else "b.png" for number in range(rows)]
    pq.write_table(pa.table({"n": [*range(rows)], "image": images}), folder / "in/a.parquet")
    fields = {"unit_rows": rows // 10, "dedup": False, "drain_seconds": 2, "max_error_rate": 1}
    settings = config(folder / "in/a.parquet", folder / "out", model, **fields)
    assert run(settings, ColourTask(), backend=FAKE).outcomes == {"missing_input": rows}
    return settings


def test_a_retry_leaves_no_trace_but_what_a_newer_driver_needs(
    tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_missing_images(tmp_path, gemma_folder, 40)
    started = status(settings.output).started
    internal = tmp_path / "out/_gemma3_batch"
    unit = sorted(tmp_path.glob("out/part-*"))[0].stem.split("-")[2]
    own = [internal / "retry/other/x.parquet", internal / f"suspects/{unit}/0-render-x"]
    of_a_run = [internal / "journal/other/x.parquet", internal / "suspects/other/0-render-x"]
    for path in (*own, *of_a_run):
        path.parent.mkdir(parents=True)
        path.touch()

    def superseded(output: Location, token: str) -> Epoch:
        epoch = begin_epoch(output, token)
        begin_epoch(output)
        return epoch

    write_image(tmp_path / "in/a.png")
    with monkeypatch.context() as patched:
        patched.setattr(heartbeat, "begin_epoch", superseded)
        result = retry(settings, ColourTask(), ["missing_input"], backend=FAKE)
    assert result.outcomes == {"missing_input": 20, "ok": 20}
    assert all(path.exists() for path in (*own, *of_a_run))

    write_image(tmp_path / "in/b.png")
    result = retry(settings, ColourTask(), ["missing_input"], backend=FAKE)
    assert (result.outcomes, result.new_rows) == ({"ok": 40}, 20)
    assert [path.exists() for path in own] == [False, False]
    assert not (internal / "retry").exists()
    assert all(path.exists() for path in of_a_run)
    assert read_back(tmp_path / "out")["colour"].to_pylist() == [[*COLOUR]] * 40
    stands = status(settings.output)
    assert (stands.outcomes, stands.started) == ({"ok": 40}, started)


def test_failures_of_a_retry_that_was_killed_are_computed_again(
    tmp_path: Path, gemma_folder: Path
) -> None:
    """And what it finished well is not."""
    settings = with_missing_images(tmp_path, gemma_folder, 20)
    output = locate(settings.output)
    plan = open_plan(output)
    assert plan is not None
    journal = Journal(output, ColourTask().result_schema, OF_RETRIES)
    schema = entry_schema(journal.results)
    for index in range(len(plan)):
        failed = {"position": 0, "outcome": "missing_input", "error": "fetch: it was not there"}
        fine = {"position": 1, "outcome": "ok", "colour": [7, 7, 7]}
        journal.append(plan.unit(index).id, pa.Table.from_pylist([failed, fine], schema=schema))
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "in" / name)
    result = retry(settings, ColourTask(), ["missing_input"], backend=FAKE)
    assert (result.outcomes, result.new_rows) == ({"ok": 20}, 10)
    assert read_back(tmp_path / "out")["colour"].to_pylist() == [[*COLOUR], [7, 7, 7]] * 10


def test_a_store_that_ignores_conditions_is_refused(
    tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_missing_images(tmp_path, gemma_folder, 10)
    write_image(tmp_path / "in/a.png")

    def unconditional(draft: str, where: Location, *_: object) -> bool:
        os.makedirs(where.parent.path, exist_ok=True)
        os.replace(draft, where.path)
        return True

    before = read_back(tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(atomic, "create_from", unconditional)
        with pytest.raises(UserError, match=r"conditional writes.*--single-driver"):
            retry(settings, ColourTask(), ["missing_input"], backend=FAKE)
    assert read_back(tmp_path / "out") == before


def test_a_foreign_error_is_one_line_and_counts_stay_right(
    tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_missing_images(tmp_path, gemma_folder, 10)
    write_image(tmp_path / "in/a.png")

    class Interrupted(Driver):
        """Somebody asks for the status before the rows are there; then something breaks."""

        def drive(self, work: Iterable[Work]) -> None:
            assert status(settings.output).outcomes == {"missing_input": 10}
            super().drive(work)
            found = status(settings.output)
            assert (found.rows_done, found.outcomes) == (10, {"missing_input": 5, "ok": 5})
            raise MemoryError("all is full")

    with monkeypatch.context() as patched:
        patched.setattr(run_module, "Driver", Interrupted)
        due = r"^the run stopped: MemoryError: all is full(\nEngine log: .+)?$"
        with pytest.raises(RunError, match=due):
            retry(settings, ColourTask(), ["missing_input"], backend=FAKE)
    assert status(settings.output).outcomes == {"missing_input": 5, "ok": 5}


@pytest.mark.parametrize(
    "end", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.long)]
)
def test_a_retry_that_is_ended_is_resumed(
    tmp_path: Path, gemma_folder: Path, end: signal.Signals
) -> None:
    import ray

    settings = with_missing_images(tmp_path, gemma_folder, 2000)
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "in" / name)
    code = (
        "import sys; from pipeline import RunConfig, retry; "
        "from tests.pipeline.fakes import SLOW_FAKE, ColourTask; "
        "settings = RunConfig.model_validate_json(sys.argv[1]); "
        "retry(settings, ColourTask(), ['missing_input'], backend=SLOW_FAKE)"
    )
    attempt = subprocess.Popen(
        [sys.executable, "-c", code, settings.model_dump_json()],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
    )
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up and not fixed_parts(tmp_path / "out"):
        time.sleep(0.1)
    attempt.send_signal(end)
    signalled = time.monotonic()
    _, errors = attempt.communicate(timeout=60)
    assert time.monotonic() - signalled < 30
    if end == signal.SIGTERM:
        assert attempt.returncode == 1
        assert "the run was ended by SIGTERM" in errors
    stopped = status(settings.output).outcomes
    assert 0 < stopped.get("ok", 0) < 2000
    result = retry(settings, ColourTask(), ["missing_input"], backend=FAKE)
    assert result.outcomes == {"ok": 2000} == status(settings.output).outcomes
    assert 0 < result.new_rows <= stopped["missing_input"]
    table = read_back(tmp_path / "out")
    assert table["n"].to_pylist() == [*range(2000)]
    assert table["colour"].to_pylist() == [[*COLOUR]] * 2000
    assert not (tmp_path / "out/_gemma3_batch/retry").exists()


def fixed_parts(output: Path) -> list[str]:
    paths = output.glob("part-*")
    return [path.name for path in paths if b'"outcomes": {"ok"' in path.read_bytes()]


def test_a_file_that_changed_is_not_retried(tmp_path: Path, gemma_folder: Path) -> None:
    """Its rows may have other places by now, and would get the answers of others."""
    settings = with_missing_images(tmp_path, gemma_folder, 10)
    write_image(tmp_path / "in/a.png")
    before, path = read_back(tmp_path / "out"), tmp_path / "in/a.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table.slice(9), table.slice(0, 9)]), path)
    with pytest.raises(UserError, match=r"INPUT a\.parquet: changed since its rows were computed"):
        retry(settings, ColourTask(), ["missing_input"], backend=FAKE)
    assert read_back(tmp_path / "out") == before
    pq.write_table(table, path)  # as it was, with another time stamp
    assert retry(settings, ColourTask(), ["missing_input"], backend=FAKE).outcomes["ok"] == 5


def test_an_image_that_was_repaired_is_retried(tmp_path: Path, gemma_folder: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        write_image(tmp_path / f"in/{name}.png")
    whole = (tmp_path / "in/b.png").read_bytes()
    (tmp_path / "in/b.png").write_bytes(whole[:60])
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, max_error_rate=1)
    assert run(settings, ColourTask(), backend=FAKE).outcomes == {"ok": 2, "decode_error": 1}
    (tmp_path / "in/b.png").write_bytes(whole)
    assert retry(settings, ColourTask(), ["decode_error"], backend=FAKE).outcomes == {"ok": 3}
