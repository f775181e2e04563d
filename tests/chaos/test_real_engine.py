"""Killed and halted with our Gemma 3 in vLLM: no caption is lost, doubled or another."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from jobs.demo.dataset import write_dataset
from pipeline import UserError, status
from tests.chaos.test_chaos import ray_address, ray_workers

STALL = "stall"
STALL_S = 20.0
FULL = ("Generate", "driver", "Render", "VLLM::", "driver", STALL)
"""An engine's actor, the driver, a render actor, an engine's own process; then such a one stands
still.

A render actor comes straight after a driver: a fast one is done, and gone, before the engine is.
"""
PATIENCE_S = 150.0
BLOCK_ROWS = 8
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Ray's own, which notice within two minutes that their cluster is gone (2.60)."""


def command(folder: Path, output: Path) -> list[str]:
    # Small units, so that some are committed and some half done at every moment.
    script = (
        "import sys; from jobs.captioning.task import CaptionTask; "
        "from jobs.registry import find_model; "
        "from pipeline import EngineConfig, RunConfig, run; model = find_model('demo'); "
        "engine = EngineConfig(model=model.path, dtype=model.dtype, max_num_seqs=2,"
        f" stall_seconds={STALL_S}); "
        "run(RunConfig(input=sys.argv[1], output=sys.argv[2], engine=engine, unit_rows=64,"
        f" block_rows={BLOCK_ROWS}), CaptionTask(prompt=model.caption_prompt))"
    )
    return [sys.executable, "-c", script, str(folder), str(output)]


class Attempts:
    """Drivers, one after the other."""

    def __init__(self, folder: Path, output: Path) -> None:
        self.command, self.output = command(folder, output), output
        self.driver: subprocess.Popen[bytes] | None = None
        self.stale: set[psutil.Process] = set()

    def start(self) -> None:
        environment = {**os.environ, "RAY_ADDRESS": ray_address(), "HF_HUB_OFFLINE": "1"}
        environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
        self.stale = set(at_work())
        self.driver = subprocess.Popen(self.command, env=environment)

    def finished(self) -> int:
        """Rows that are safe. Not files: after a loss a block has fewer rows, and a commit takes
        the files of its unit away."""
        try:
            found = status(str(self.output))
        except UserError:  # it has not begun
            return 0
        return found.rows_done + found.rows_journalled

    def wait_for_work(self, blocks: int) -> None:
        """Until so many more blocks are safe."""
        before, give_up = self.finished(), time.monotonic() + PATIENCE_S
        while self.finished() < before + blocks * BLOCK_ROWS:
            assert self.driver is not None
            assert self.driver.poll() is None, "it ended before it was killed"
            assert time.monotonic() < give_up, "no row was finished in time"
            time.sleep(0.2)

    def kill(self, what: str) -> None:
        if what == "driver":
            assert self.driver is not None
            self.driver.kill()
            self.driver.wait()
            self.start()
            return
        give_up = time.monotonic() + PATIENCE_S
        name = "VLLM::" if what == STALL else what
        while not (victims := self.running(name)):  # it may still be starting
            assert self.driver is not None
            assert self.driver.poll() is None, f"it ended before {name} was killed"
            assert time.monotonic() < give_up, f"no {name} to kill"
            time.sleep(0.1)
        if what == STALL:
            victims[-1].suspend()
        else:
            victims[-1].kill()

    def running(self, what: str) -> list[psutil.Process]:
        """This driver's processes with this in their names, the youngest last.

        Not those that worked for a driver before, which may be about to end. The age of a process
        does not tell: Ray gives a new actor a worker that was idle, which is older than the driver.
        """
        found = [p for p, line in at_work().items() if what in line and p not in self.stale]
        return sorted(found, key=lambda process: process.create_time())


def at_work() -> dict[psutil.Process, str]:
    """Ray's workers that have work, and vLLM's processes, each with its name."""
    found = ray_workers(("ray::", "VLLM::"))
    return {p: line for p, line in found if not line.startswith("ray::IDLE")}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("unforked_workers")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=str)
def test_nothing_outlives_a_run_that_ends_while_its_engine_starts(
    tmp_path: Path, end: signal.Signals
) -> None:
    write_dataset(tmp_path / "in", 8, seed=5)
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)
    driver = subprocess.Popen(
        command(tmp_path / "in", tmp_path / "out"),
        env={**environment, "HF_HUB_OFFLINE": "1"},
        start_new_session=True,
    )
    try:
        give_up = time.monotonic() + 2 * PATIENCE_S
        while not any(p.info["name"].startswith("VLLM::") for p in in_session(driver.pid)):
            assert time.monotonic() < give_up, "the engine core never started"
            time.sleep(0.05)
        driver.send_signal(end)
        driver.wait(60)
    finally:
        driver.kill()
    give_up = time.monotonic() + 60
    while left := [p for p in in_session(driver.pid) if p.info["name"] not in AGENTS]:
        assert time.monotonic() < give_up, left
        time.sleep(0.2)


def in_session(leader: int) -> list[psutil.Process]:
    """The processes that a session's leader has started, and what those have, that run."""
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            is_running = process.status() != psutil.STATUS_ZOMBIE
            if is_running and os.getsid(process.pid) == leader != process.pid:
                found.append(process)
    return found


def killed(folder: Path, rows: int, kills: tuple[str, ...]) -> pa.Table:
    """What is in OUTPUT after a run in which these were killed, one after the other."""
    draw = random.Random(5)
    write_dataset(folder / "in", rows, seed=5)
    attempts = Attempts(folder / "in", folder / "out")
    attempts.start()
    for what in kills:
        if what != "Render":
            attempts.wait_for_work(draw.randrange(2, 8))
        attempts.kill(what)
    assert attempts.driver is not None
    assert attempts.driver.wait(PATIENCE_S * 2) == 0
    table = ds.dataset(folder / "out").to_table()
    assert len({*table["row_key"].to_pylist()}) == rows
    assert Counter(table["outcome"].to_pylist()) == {"ok": rows}
    return table


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_cluster")
def test_captions_are_right_although_the_engine_was_killed(tmp_path: Path) -> None:
    table = killed(tmp_path, 1000, ("VLLM::",))
    pairs = zip(table["caption"].to_pylist(), table["truth"].to_pylist(), strict=True)
    assert sum(said == true for said, true in pairs) >= 990


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_cluster")
def test_captions_are_the_same_whatever_was_killed(tmp_path: Path) -> None:
    disturbed = killed(tmp_path, 2000, FULL)
    undisturbed = Attempts(tmp_path / "in", tmp_path / "undisturbed")
    undisturbed.start()
    assert undisturbed.driver is not None
    assert undisturbed.driver.wait(PATIENCE_S * 2) == 0
    clean = ds.dataset(tmp_path / "undisturbed").to_table()
    assert disturbed.equals(clean), "not the same rows, in the same order, with the same captions"
