"""The caption job as a user runs it: Ray, our Gemma 3 inside vLLM on the CPU, and parquet back.

Twenty-one bad rows of seven kinds among 420: each input row is one output row in input order, the
good ones are captioned, the bad ones say what was wrong, and the input's columns keep their types.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jobs.demo.dataset import write_dataset
from tests.forking import unforked
from tests.pipeline.sample_images import bomb_png, truncated_jpeg

ROWS = 420
BAD: dict[str, tuple[dict[str, Any] | None, str]] = {
    "broken bytes": ({"bytes": b"\xff\xd8 these are not an image", "path": "b"}, "decode_error"),
    "no bytes": ({"bytes": b"", "path": "e"}, "decode_error"),
    "truncated": ({"bytes": truncated_jpeg(), "path": "t"}, "decode_error"),
    "huge": ({"bytes": bomb_png(), "path": "h"}, "decode_error"),
    "null": (None, "missing_input"),
    "null within": ({"bytes": None, "path": None}, "missing_input"),
    "missing file": ({"bytes": None, "path": "no/such/file.jpg"}, "missing_input"),
}


def spoil(clean: pa.Table) -> tuple[pa.Table, list[str]]:
    """Replace every twentieth image by a bad one, each kind in turn; gives the outcomes too."""
    images, outcomes = clean["image"].to_pylist(), ["ok"] * clean.num_rows
    for turn, position in enumerate(range(7, clean.num_rows, 20)):
        images[position], outcomes[position] = BAD[[*BAD][turn % len(BAD)]]
    column = clean.schema.get_field_index("image")
    field = clean.schema.field("image")
    spoilt = clean.set_column(column, field, pa.array(images, field.type))
    extra = pa.array(range(clean.num_rows), pa.int16())
    return spoilt.append_column("number", extra), outcomes


def watched(*arguments: object) -> tuple[str, list[psutil.Process]]:
    """Run a command to its end; gives what it printed, and the processes of its engines."""
    engines: dict[int, psutil.Process] = {}
    with subprocess.Popen(
        [sys.executable, "-m", "jobs", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**unforked(), "HF_HUB_OFFLINE": "1"},
    ) as command:
        parent, give_up = psutil.Process(command.pid), time.monotonic() + 500
        while command.poll() is None:
            assert time.monotonic() < give_up
            with contextlib.suppress(subprocess.TimeoutExpired, psutil.NoSuchProcess):
                below = parent.children(recursive=True)
                engines |= {p.pid: p for p in below if p.name().startswith("VLLM::")}
                command.communicate(timeout=0.5)
        printed, errors = command.communicate()
    assert command.returncode == 0, errors
    return printed, [*engines.values()]


def is_running(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[pa.Table, list[str], Path, str]:
    """One run of the command: its input, the outcomes due, its output and what it printed."""
    folder = tmp_path_factory.mktemp("end-to-end")
    table, outcomes = spoil(pq.read_table(write_dataset(folder / "clean", ROWS, seed=3)))
    (folder / "in").mkdir()
    half = table.num_rows // 2
    pq.write_table(table[:half], folder / "in/a.parquet", row_group_size=50)
    pq.write_table(table[half:], folder / "in/b.parquet", row_group_size=1000)
    out = folder / "out"
    printed, engines = watched("caption", folder / "in", out, "--model", "demo")
    assert engines, "nobody saw an engine"
    assert not [engine for engine in engines if is_running(engine)], "engines outlive their run"
    return table, outcomes, out, printed


def test_every_row_is_there_once_in_input_order(finished: Any) -> None:
    table, outcomes, out, _ = finished
    written = ds.dataset(out).to_table()
    for column in ("name", "truth", "number"):
        assert written[column].to_pylist() == table[column].to_pylist()
        assert written.schema.field(column).type == table.schema.field(column).type
    assert written["outcome"].to_pylist() == outcomes
    assert len({*written["row_key"].to_pylist()}) == ROWS
    assert sorted(path.name for path in out.iterdir())[0] == "_gemma3_batch"


def test_good_rows_are_captioned_exactly(finished: Any) -> None:
    rows = [row for row in ds.dataset(finished[2]).to_table().to_pylist() if row["outcome"] == "ok"]
    right = sum(row["caption"] == row["truth"] for row in rows)
    assert right / len(rows) >= 0.98
    assert all(row["error"] is None for row in rows)
    assert all(row["prompt_tokens"] > 16 and row["output_tokens"] > 5 for row in rows)


def test_bad_rows_say_what_was_wrong(finished: Any) -> None:
    rows = [row for row in ds.dataset(finished[2]).to_table().to_pylist() if row["outcome"] != "ok"]
    assert len(rows) == ROWS // 20
    for row in rows:
        assert row["caption"] is None
        assert row["output_tokens"] is None
        assert row["error"].startswith("decode: " if "decode" in row["outcome"] else "fetch: ") or (
            row["error"] == "fetch: the image has no bytes"
        )
    assert Counter(row["outcome"] for row in rows) == {"decode_error": 12, "missing_input": 9}


def test_images_are_dropped_and_their_column_stays(finished: Any) -> None:
    table, _, out, _ = finished
    written = ds.dataset(out).to_table()
    assert written.schema.field("image").type == table.schema.field("image").type
    for before, after in zip(table["image"].to_pylist(), written["image"].to_pylist(), strict=True):
        assert after == (before and {"bytes": None, "path": before["path"]})


def test_the_run_says_that_our_class_was_loaded(finished: Any) -> None:
    ours = "gemma3_model.model.Gemma3ForConditionalGeneration"
    *_, out, printed = finished
    assert f"Model class: {ours}" in printed
    record = json.loads((out / "_gemma3_batch/run.json").read_text())
    assert record["model_class"] == ours
    assert record["rows"] == ROWS


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run another command on the run's output."""
    return subprocess.run(
        [sys.executable, "-m", "jobs", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
    )


def test_the_same_command_again_computes_nothing(finished: Any) -> None:
    out: Path = finished[2]
    before = {path.name: path.read_bytes() for path in out.glob("*.parquet")}
    done = command("caption", out.parent / "in", out, "--model", "demo")
    assert done.returncode == 0, done.stderr
    assert "420 rows (399 ok, 12 decode_error, 9 missing_input)" in done.stdout
    assert "; 0 of them new, in" in done.stdout
    assert "starting" not in done.stderr, "it must start neither Ray nor an engine"
    assert {path.name: path.read_bytes() for path in out.glob("*.parquet")} == before


def test_another_prompt_is_refused_with_the_difference(finished: Any) -> None:
    out: Path = finished[2]
    done = command("caption", out.parent / "in", out, "--model", "demo", "--prompt", "What?")
    assert done.returncode == 2
    assert "settings.prompt: " in done.stderr
    assert "now 'What?'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_status_and_errors_say_what_came(finished: Any, tmp_path: Path) -> None:
    out: Path = finished[2]
    told = command("status", out).stdout
    assert "caption: 420 of 420 rows (100.0%) in 2 of 2 parts" in told
    assert "Outcomes: 399 ok, 12 decode_error, 9 missing_input" in told
    shown = command("errors", out, "--outcome", "missing_input", "--limit", 3).stdout
    assert shown.count("missing_input") == 3
    assert shown.rstrip().endswith("9 rows, 3 of them shown")
    command("errors", out, "--export", tmp_path / "failed.parquet")
    failed = pq.read_table(tmp_path / "failed.parquet")
    assert failed.num_rows == 21
    assert {*failed["outcome"].to_pylist()} == {"decode_error", "missing_input"}
