"""The same command again: after a stop, over more input, with a change, and to fix rows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import ErrorRateError, RunConfig, RunError, UserError, failed_rows, retry, run, status
from pipeline.execution import assignment
from pipeline.output.results import open_results
from pipeline.storage.location import locate
from tests.pipeline.execution.test_run import colours_dataset, config, read_back
from tests.pipeline.fakes import ANSWERED, CRASHING, DEADLY, FAKE, STARTING, ColourTask
from tests.pipeline.sample_images import encoded, plain

pytestmark = pytest.mark.usefixtures("ray_cluster")


def parts(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("*.parquet")}


def test_a_run_that_went_wrong_stops_early_and_is_finished_later(
    tmp_path: Path, gemma_folder: Path
) -> None:
    records = colours_dataset(tmp_path / "in", 1200, bad_share=0.3)
    fields: dict[str, Any] = {"unit_rows": 100, "block_rows": 10, "render_workers": 1}
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, **fields, max_error_rate=0.1)
    with pytest.raises(ErrorRateError, match=r"rows failed, more than max_error_rate 0\.1 allows"):
        run(settings, ColourTask(), backend=FAKE)
    stopped = status(str(tmp_path / "out"))
    assert 200 <= stopped.rows_done + stopped.rows_journalled < 1200
    assert stopped.finished is None
    kept = parts(tmp_path / "out")

    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, **fields)
    result = run(settings, ColourTask(), backend=FAKE)
    # Blocks that were in flight at the stop may have been journalled after it.
    assert 0 < result.new_rows <= 1200 - stopped.rows_done - stopped.rows_journalled
    assert result.rows == 1200
    table = read_back(tmp_path / "out")
    assert table["n"].to_pylist() == [*range(1200)]
    assert table["colour"].to_pylist() == [record["colour"] for record in records]
    assert {name: body for name, body in parts(tmp_path / "out").items() if name in kept} == kept


def test_new_and_changed_files_alone_are_computed(tmp_path: Path, gemma_folder: Path) -> None:
    records = colours_dataset(tmp_path / "in", 300)
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, unit_rows=50)
    run(settings, ColourTask(), backend=FAKE)
    before = parts(tmp_path / "out")
    again = run(settings, ColourTask(), backend=FAKE)
    assert (again.new_rows, again.rows, again.outcomes) == (0, 300, {"ok": 300})
    assert again.model_class == "tests.pipeline.fakes.FakeEngine"  # as recorded

    more = colours_dataset(tmp_path / "more", 30)
    os.rename(tmp_path / "more/000.parquet", tmp_path / "in/zzz.parquet")
    changed = pq.read_table(tmp_path / "in/000.parquet").slice(0, 120)
    pq.write_table(changed, tmp_path / "in/000.parquet")
    result = run(settings, ColourTask(), backend=FAKE)
    assert (result.new_rows, result.rows) == (120 + 30, 300 - 30 + 30)
    table = read_back(tmp_path / "out").sort_by("n")
    due = [r["colour"] for r in [*records[:120], *records[150:], *more]]
    assert sorted(table["colour"].to_pylist()) == sorted(due)
    after = parts(tmp_path / "out")
    untouched = [name for name in before if before[name] == after.get(name)]
    assert len(untouched) == 4  # of the other file
    assert run(settings, ColourTask(), backend=FAKE).new_rows == 0


def test_a_run_that_was_killed_before_its_clean_up_is_ended_by_the_next(
    tmp_path: Path, gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is committed, but parts of rows that are not in the input any more are there too."""
    colours_dataset(tmp_path / "in", 300)
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, unit_rows=50)
    run(settings, ColourTask(), backend=FAKE)
    path = tmp_path / "in/000.parquet"
    pq.write_table(pq.read_table(path).slice(70), path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(assignment, "clean_up_run", killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings, ColourTask(), backend=FAKE)
    due = [*range(70, 300)]
    assert sorted(open_results(locate(settings.output)).to_table()["n"].to_pylist()) == due
    assert len(read_back(tmp_path / "out")) > len(due)
    result = run(settings, ColourTask(), backend=FAKE)
    assert (result.new_rows, result.rows) == (0, 230)
    assert sorted(read_back(tmp_path / "out")["n"].to_pylist()) == due
    assert (status(settings.output).last_rows, status(settings.output).rows) == (0, 230)


def test_a_single_file_that_was_rewritten_is_a_changed_one(
    tmp_path: Path, gemma_folder: Path
) -> None:
    records = colours_dataset(tmp_path / "in", 40)
    path = tmp_path / "in/000.parquet"
    settings = config(path, tmp_path / "out", gemma_folder, unit_rows=10)
    run(settings, ColourTask(), backend=FAKE)
    assert status(settings.output).rows_done == 40
    pq.write_table(pq.read_table(path).slice(5, 25), path)
    result = run(settings, ColourTask(), backend=FAKE)
    assert (result.rows, result.new_rows, result.outcomes) == (25, 25, {"ok": 25})
    assert read_back(tmp_path / "out")["colour"].to_pylist() == [r["colour"] for r in records[5:30]]
    found = status(settings.output)
    assert (found.rows, found.rows_done, found.outcomes) == (25, 25, {"ok": 25})
    assert (found.units, found.units_done) == (3, 3)


def test_what_decides_the_results_may_not_change(tmp_path: Path, gemma_folder: Path) -> None:
    colours_dataset(tmp_path / "in", 20)
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder)
    run(settings, ColourTask(), backend=FAKE)
    before = parts(tmp_path / "out")
    with pytest.raises(UserError, match=r"settings\.prompt: 'Which colour\?', now 'Colour'.*"):
        run(settings, ColourTask(prompt="Colour"), backend=FAKE)
    versioned = settings.model_copy(update={"new_version": True})
    second = run(versioned, ColourTask(prompt="Colour"), backend=FAKE)
    assert second.output == str(tmp_path / "out-v2")
    assert run(versioned, ColourTask(prompt="Colour"), backend=FAKE).new_rows == 0
    assert run(versioned, ColourTask(), backend=FAKE).output == str(tmp_path / "out")
    assert parts(tmp_path / "out") == before
    colours_dataset(tmp_path / "elsewhere", 7)
    other = config(tmp_path / "elsewhere", tmp_path / "out", gemma_folder)
    with pytest.raises(UserError, match="made from another INPUT"):
        run(other, ColourTask(), backend=FAKE)


def test_identical_rows_are_computed_once(tmp_path: Path, gemma_folder: Path) -> None:
    (tmp_path / "in").mkdir()
    colours = [(1, 2, 3), (4, 5, 6), (1, 2, 3), (7, 8, 9), (4, 5, 6), (1, 2, 3)] * 10
    images = [encoded(plain(colour), "PNG") for colour in colours]
    images[7] = b"broken"
    images[30] = b"broken"
    pq.write_table(pa.table({"image": images}), tmp_path / "in/a.parquet")
    due = [None if i in (7, 30) else [*colour] for i, colour in enumerate(colours)]
    for dedup, duplicates in ((True, 56), (False, 0)):
        output = tmp_path / f"out-{dedup}"
        settings = config(tmp_path / "in", output, gemma_folder, dedup=dedup)
        result = run(settings, ColourTask(), backend=FAKE)
        assert result.duplicates == duplicates
        assert result.outcomes == {"ok": 58, "decode_error": 2}
        assert read_back(output)["colour"].to_pylist() == due
        record = json.loads((output / "_gemma3_batch/run.json").read_text())
        assert record["duplicates"] == duplicates


def test_failed_rows_are_done_again_in_their_place(tmp_path: Path, gemma_folder: Path) -> None:
    (tmp_path / "in").mkdir()
    paths = [f"{number}.png" for number in range(40)]
    pq.write_table(pa.table({"n": [*range(40)], "image": paths}), tmp_path / "in/a.parquet")
    for number in range(0, 40, 2):
        body = b"broken" if number == 10 else encoded(plain((number + 1, 1, 1)), "PNG")
        (tmp_path / f"in/{number}.png").write_bytes(body)
    settings = config(tmp_path / "in/a.parquet", tmp_path / "out", gemma_folder, unit_rows=10)
    first = run(settings, ColourTask(), backend=FAKE)
    assert first.outcomes == {"ok": 19, "missing_input": 20, "decode_error": 1}
    failed = pa.concat_tables(failed_rows(str(tmp_path / "out"), ["missing_input"]))
    assert failed["n"].to_pylist() == [*range(1, 40, 2)]
    before = parts(tmp_path / "out")

    for number in range(1, 20, 2):
        (tmp_path / f"in/{number}.png").write_bytes(encoded(plain((number + 1, 1, 1)), "PNG"))
    result = retry(settings, ColourTask(), ["missing_input"], backend=FAKE)
    assert result.outcomes == {"ok": 29, "missing_input": 10, "decode_error": 1}
    assert result.new_rows == 20
    table = read_back(tmp_path / "out")
    assert table["n"].to_pylist() == [*range(40)]
    for row in table.to_pylist():
        is_there = row["n"] % 2 == 0 or row["n"] < 20
        due = [row["n"] + 1, 1, 1] if is_there and row["n"] != 10 else None
        assert row["colour"] == due
        assert (row["error"] is None) == (row["outcome"] == "ok")
    assert before.keys() == parts(tmp_path / "out").keys()
    found = status(str(tmp_path / "out"))
    assert (found.outcomes, found.last_rows) == (result.outcomes, 20)
    assert run(settings, ColourTask(), backend=FAKE).new_rows == 0
    assert status(str(tmp_path / "out")).last_rows == 20  # of the last that had something to do
    with pytest.raises(UserError, match="outcome 'gone': should be one of"):
        retry(settings, ColourTask(), ["gone"], backend=FAKE)


def test_a_file_that_cannot_be_read_stops_only_its_units(
    tmp_path: Path, gemma_folder: Path
) -> None:
    records = colours_dataset(tmp_path / "in", 300)
    path = tmp_path / "in/000.parquet"
    whole = path.read_bytes()
    middle = len(whole) // 3
    path.write_bytes(whole[:middle] + b"\xff" * 400 + whole[middle + 400 :])
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, unit_rows=40)
    with pytest.raises(RunError) as waiting:
        run(settings, ColourTask(), backend=FAKE)
    done = status(str(tmp_path / "out"))
    assert done.rows_done >= 150
    expected = (
        f"{300 - done.rows_done} row(s) wait for input files that cannot be read (000.parquet)"
    )
    assert str(waiting.value).startswith(expected)
    assert "take them out of INPUT first, to go on without their rows" in str(waiting.value)

    path.rename(tmp_path / "aside.parquet")
    result = run(settings, ColourTask(), backend=FAKE)
    assert (result.left_out, result.rows, result.new_rows) == (["000.parquet"], done.rows_done, 0)
    found = status(str(tmp_path / "out"))
    assert (found.rows, found.rows_done) == (done.rows_done, done.rows_done)
    assert (found.units, found.finished is None) == (found.units_done, False)
    assert run(settings, ColourTask(), backend=FAKE).left_out == ()

    path.write_bytes(whole)
    run(settings, ColourTask(), backend=FAKE)
    table = read_back(tmp_path / "out").sort_by("n")
    assert table["colour"].to_pylist() == [record["colour"] for record in records]


@pytest.mark.long  # of all kinds: tests/chaos/test_poison.py
def test_rows_that_end_the_renderer_or_the_engine_are_found(
    tmp_path: Path, gemma_folder: Path
) -> None:
    records = colours_dataset(tmp_path / "in", 150)
    bad = {"n": pa.array([900, 901], pa.int16())}
    images = [encoded(plain(colour), "PNG") for colour in (CRASHING, DEADLY)]
    pq.write_table(pa.table({**bad, "image": images}), tmp_path / "in/000-bad.parquet")
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, unit_rows=60)
    result = run(settings, ColourTask(), backend=FAKE)
    assert result.outcomes == {"ok": 150, "engine_error": 2}
    rows = {row["n"]: row for row in read_back(tmp_path / "out").to_pylist()}
    assert rows[900]["error"].startswith("render: the process died or hung 3 times")
    assert rows[901]["error"].startswith("generate: the process died or hung 3 times")
    assert [rows[r["n"]]["colour"] for r in records] == [r["colour"] for r in records]
    assert not (tmp_path / "out/_gemma3_batch/suspects").exists()


def attempt_at(
    settings: RunConfig, *backend: str, address: str | None = None
) -> subprocess.Popen[str]:
    """A run in a process of its own, on the tests' cluster or on one that it starts."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.attempt", settings.model_dump_json(), *backend],
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, **({"RAY_ADDRESS": address} if address else {})},
    )


def test_a_run_finishes_what_is_in_flight_on_sigterm_and_takes_no_more(
    tmp_path: Path, gemma_folder: Path
) -> None:
    import ray

    colours_dataset(tmp_path / "in", 1000)
    settings = config(
        tmp_path / "in", tmp_path / "out", gemma_folder, unit_rows=100, drain_seconds=600
    )
    attempt = attempt_at(settings, address=ray.get_runtime_context().gcs_address)
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up and not parts(tmp_path / "out"):
        time.sleep(0.1)
    attempt.send_signal(signal.SIGTERM)
    _, errors = attempt.communicate(timeout=60)  # and not the 600 seconds
    assert attempt.returncode == 1
    assert "the run was ended by SIGTERM" in errors
    stopped = status(str(tmp_path / "out"))
    assert 0 < stopped.rows_done < 1000
    answered = len(Path(f"{gemma_folder}{ANSWERED}").read_bytes())
    assert stopped.rows_done + stopped.rows_journalled == answered < 1000
    result = run(settings, ColourTask(), backend=FAKE)
    assert result.rows == 1000
    assert result.new_rows <= 1000 - stopped.rows_done - stopped.rows_journalled


def test_a_run_whose_engine_is_starting_ends_at_once_on_sigterm_with_all_it_started(
    tmp_path: Path, gemma_folder: Path
) -> None:
    colours_dataset(tmp_path / "in", 10)
    settings = config(tmp_path / "in", tmp_path / "out", gemma_folder, drain_seconds=600)
    attempt = attempt_at(settings, "STARTING_FAKE")
    started = Path(f"{gemma_folder}{STARTING}")
    give_up = time.monotonic() + 120
    while not started.exists():
        assert time.monotonic() < give_up
        time.sleep(0.1)
    core = psutil.Process(int(started.read_text()))
    attempt.send_signal(signal.SIGTERM)
    _, errors = attempt.communicate(timeout=60)
    assert attempt.returncode == 1
    assert "the run was ended by SIGTERM" in errors
    assert not core.is_running() or core.status() == psutil.STATUS_ZOMBIE
    assert not (tmp_path / "out").exists()
