"""`ray start --head`, then `ray job submit` of the example files, as on a real cluster."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import yaml
from ray.job_submission import JobSubmissionClient

from pipeline.execution.cluster import WORKERS
from tests.deploy import examples

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ENVIRONMENT = {
    **os.environ,
    **WORKERS,
    # A token that another Ray of this user has made would be asked for in every process.
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "PATH": f"{BIN}:{os.environ['PATH']}",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address that jobs are submitted to."""
    port, folder = free_port(), tmp_path_factory.mktemp("head")
    command = ["ray", "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats"]
    command += [f"--port={free_port()}", f"--dashboard-port={port}", "--include-dashboard=true"]
    # Its default is one port for all: beside another cluster the agent would not take jobs.
    command += [f"--dashboard-agent-listen-port={free_port()}"]
    command += ["--object-store-memory=536870912"]
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "RAY_ADDRESS"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(BIN / "ray"), *command[1:]], env=environment, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address, process, folder / "log")
        yield address
    finally:  # at once: told to end, Ray takes half a minute
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.wait(60)


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + 120
    while True:
        assert process.poll() is None, log.read_text()
        try:
            JobSubmissionClient(address).submit_job(entrypoint="true")
        except Exception:  # there is no dashboard yet, or no agent that takes jobs
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.5)
        else:
            return


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return examples.write(tmp_path_factory.mktemp("data"))


def submit(
    head: str, file: str, data: Path, name: str, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    variables = {"DATA": str(data), "MODEL": "demo", "HF_HUB_OFFLINE": "1"}
    command = [str(BIN / "ray"), "job", "submit", f"--address={head}", f"--submission-id={name}"]
    command += ["--working-dir=.", f"--runtime-env-json={json.dumps({'env_vars': variables})}"]
    command += ["--", "gemma3-batch", "run", file]
    return subprocess.run(
        command,
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.mark.long  # `test_examples` has the files without the submission
@pytest.mark.timeout(500)
@pytest.mark.parametrize("job", [*examples.CHECKS])
def test_an_example_file(head: str, data: Path, job: str) -> None:
    for name, new_rows in ((job, examples.ROWS), (f"{job}-again", 0)):
        done = submit(head, f"deploy/{job}.yaml", data, name)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{examples.ROWS} rows ({examples.ROWS} ok)" in done.stdout
        assert f"; {new_rows} of them new" in done.stdout
    examples.CHECKS[job](data)


@pytest.mark.long  # by command and in Python: tests/jobs/test_own_job.py
@pytest.mark.timeout(500)
def test_a_job_of_ones_own(head: str, data: Path, tmp_path: Path) -> None:
    """Its module is in the working directory only; every worker imports it from there."""
    shutil.copy(ROOT / "tests/jobs/own/classify_images.py", tmp_path)
    places = f"input: {data}/images\noutput: {data}/classes\n"
    (tmp_path / "classify.yaml").write_text(
        f"task: classify_images:Classify\n{places}model: ${{MODEL}}\nlabels: [red, green]\n"
    )
    done = submit(head, "classify.yaml", data, "classes", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{examples.ROWS} rows ({examples.ROWS} ok)" in done.stdout
    assert {row["label"] for row in examples.rows(data / "classes")} <= {"red", "green"}


@pytest.mark.timeout(300)
def test_a_wrong_file_ends_with_2_and_one_line(head: str, data: Path) -> None:
    wrong = yaml.safe_load((ROOT / "deploy/caption.yaml").read_text())
    path = data / "wrong.yaml"
    path.write_text(yaml.safe_dump({**wrong, "promt": "x"}))
    done = submit(head, str(path), data, "wrong")
    assert done.returncode != 0
    client = JobSubmissionClient(head)
    assert client.get_job_info("wrong").driver_exit_code == 2
    told = [line for line in client.get_job_logs("wrong").splitlines() if "gemma3-batch: " in line]
    assert len(told) == 1
    assert "promt: there is no such option; did you mean 'prompt'?" in told[0]
    assert f"{path}:" in told[0]
