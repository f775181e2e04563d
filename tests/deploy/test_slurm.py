"""`deploy/slurm.sh` with a Slurm that is played: its nodes are real Ray nodes on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from pipeline.execution.cluster import WORKERS
from tests.deploy import cluster, examples
from tests.deploy.cluster import ROOT

SRUN = """#!/bin/bash
# Runs the command as often as there are tasks, here.
tasks=1 seen=$*
for option in "$@"; do
    case $option in
        --ntasks=*) tasks=${option#*=} ;;
        --*) ;;
        *) break ;;
    esac
    shift
done
echo "$RAY_AUTH_MODE $RAY_AUTH_TOKEN $seen" >> "$PLAYED/asked"
[ "$1" != hostname ] || exec "$@"
for _ in $(seq "$tasks"); do
    "$@" >> "$PLAYED/printed" 2>&1 &
done
trap 'kill $(jobs -p)' TERM
wait
"""
SCONTROL = """#!/bin/bash
case "$1 $2" in
    "show hostnames") printf '%s\\n' node1 node2 ;;
    requeue*) echo "$2" >> "$PLAYED/requeued" ;;
    *) exit 1 ;;
esac
"""
LISTENS = """#!/usr/bin/env python
import os, socket, sys, time
if "--head" not in sys.argv:
    time.sleep(600)
port = next(word.split("=")[1] for word in sys.argv if word.startswith("--port="))
with socket.create_server(("", int(port))):
    open(f"{os.environ['PLAYED']}/listens", "w").close()
    time.sleep(600)
"""
"""A Ray that listens and says nothing."""
IMAGES = 1200
"""More than are finished while a run that is told to end finishes its rows in flight."""


@pytest.fixture
def played(tmp_path: Path) -> Path:
    """The folder with the commands of Slurm, and what was asked of them."""
    folder = tmp_path / "played"
    folder.mkdir()
    for name, script in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return folder


def start(played: Path, data: Path, job_id: int) -> subprocess.Popen[str]:
    """What `sbatch --nodes=2 deploy/slurm.sh deploy/caption.yaml` starts on the first node."""
    env = cluster.environment(
        DATA=str(data),
        MODEL="demo",
        PLAYED=str(played),
        SLURM_CPUS_ON_NODE="1",
        SLURM_JOB_ID=str(job_id),
        SLURM_JOB_NODELIST="node[1-2]",
        SLURM_JOB_NUM_NODES="2",
    )
    return subprocess.Popen(
        ["bash", str(ROOT / "deploy/slurm.sh"), "deploy/caption.yaml"],
        cwd=ROOT,
        env={**env, **WORKERS, "PATH": f"{played}:{env['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(process: subprocess.Popen[str], job_id: int) -> None:
    """What Slurm does once the script of a job has ended: no process of the job is left."""
    cluster.kill(process)
    for other in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if other.environ().get("SLURM_JOB_ID") == str(job_id):
                cluster.kill_tree(other)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_job_that_is_preempted_and_started_again(played: Path, tmp_path: Path) -> None:
    data = examples.write(tmp_path / "data", IMAGES)
    job_id = os.getpid()
    journal = data / "captions/_gemma3_batch/journal"
    first = second = start(played, data, job_id)
    try:
        while not [*journal.rglob("*.parquet")]:
            assert first.poll() is None, first.communicate()[0]
            time.sleep(0.1)
        first.send_signal(signal.SIGTERM)
        printed, _ = first.communicate(timeout=200)
        assert first.returncode == 1, printed
        assert "back into the queue" in printed
        assert (played / "requeued").read_text() == f"{job_id}\n"
        end(first, job_id)

        second = start(played, data, job_id)
        printed, _ = second.communicate(timeout=500)
        assert second.returncode == 0, printed + (played / "printed").read_text()
        assert f"{IMAGES:,} rows ({IMAGES:,} ok)" in printed
    finally:
        for process in (first, second):
            end(process, job_id)
    assert (played / "requeued").read_text() == f"{job_id}\n"  # not again
    examples.check_captions(data, IMAGES)
    check_steps(played)


def check_steps(played: Path) -> None:
    """Each start made both nodes, with a token of its own that no command line has."""
    steps = [line.split(" ", 2) for line in (played / "asked").read_text().splitlines()]
    assert len(steps) == 2 * 3
    assert {mode for mode, _, _ in steps} == {"token"}
    tokens = [token for _, token, _ in steps]
    assert len({*tokens}) == 2
    assert all(len(token) == 64 for token in tokens)
    assert not any(token in seen for token in tokens for _, _, seen in steps)
    assert sum("ray start --head" in seen for _, _, seen in steps) == 2
    assert sum("ray start --address=" in seen for _, _, seen in steps) == 2


@pytest.mark.timeout(120)
def test_a_job_that_is_preempted_before_its_nodes_have_joined(played: Path, tmp_path: Path) -> None:
    (played / "ray").write_text(LISTENS)
    (played / "ray").chmod(0o755)
    job_id = os.getpid()
    job = start(played, tmp_path, job_id)
    try:
        while not (played / "listens").exists():
            assert job.poll() is None, job.communicate()[0]
            time.sleep(0.1)
        time.sleep(2)  # within these it asks for the nodes
        job.send_signal(signal.SIGTERM)
        job.wait(timeout=10)
    finally:
        end(job, job_id)
    printed, _ = job.communicate()
    assert job.returncode == 143, printed
    assert "back into the queue" in printed
    assert (played / "requeued").read_text() == f"{job_id}\n"


def test_without_a_job_file_it_says_how_it_is_used(played: Path) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "deploy/slurm.sh")], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "usage: sbatch deploy/slurm.sh JOB.yaml" in done.stderr
    assert not (played / "asked").exists()
