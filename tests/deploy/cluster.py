"""A Ray cluster with a token, as `ray start --head` makes it, and what is asked of it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from pipeline.execution.cluster import WORKERS
from tests.forking import unforked

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
OBJECT_STORE = 512 * 2**20
START_S = 120
TRIES = 3
"""A node gives up when one of its processes takes more than 15 s to start (Ray 2.60)."""


def environment(**variables: str) -> dict[str, str]:
    """This process's own, less what would name another cluster or another token."""
    of_ray = {name for name in os.environ if name.startswith(("RAY_AUTH", "RAY_ADDRESS"))}
    kept = {name: value for name, value in unforked().items() if name not in of_ray}
    path = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return {**kept, **WORKERS, "RAY_USAGE_STATS_ENABLED": "0", **path, **variables}


@dataclass(frozen=True, kw_only=True)
class Head:
    """A cluster of one machine.

    Attributes:
        dashboard: The address that jobs are submitted to.
        gcs: The address that drivers connect to.
        token: The file that has its token.
        process: `ray start --block`.
    """

    dashboard: str
    gcs: str
    token: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """That of somebody who has the token."""
        return environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(self.token))

    def ask(self, path: str, token: str | None = None) -> str:
        """What the dashboard answers, to its own token unless another one is given."""
        given = self.token.read_text() if token is None else token
        headers = {"Authorization": f"Bearer {given}"} if given else {}
        request = urllib.request.Request(self.dashboard + path, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return str(reply.read().decode())

    def job(self, submission: str) -> dict[str, Any]:
        """What the job server tells of a job."""
        return dict(json.loads(self.ask(f"/api/jobs/{submission}")))

    def log(self, submission: str) -> str:
        """What a job has printed."""
        return str(json.loads(self.ask(f"/api/jobs/{submission}/logs"))["logs"])

    def submit(
        self,
        *entrypoint: str,
        name: str,
        variables: Mapping[str, str],
        folder: Path = ROOT,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start `ray job submit`, which shows the job's output until it ends."""
        command = [str(BIN / "ray"), "job", "submit", f"--address={self.dashboard}"]
        command += [f"--submission-id={name}", "--working-dir=."]
        command += [f"--runtime-env-json={json.dumps({'env_vars': dict(variables)})}"]
        return subprocess.Popen(
            [*command, "--", *entrypoint],
            cwd=folder,
            env=dict(env or self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextlib.contextmanager
def head(folder: Path, **variables: str) -> Iterator[Head]:
    """Start a cluster whose processes have these environment variables; ends all of them."""
    token = new_token(folder)
    variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    env = environment(**variables, RAY_raylet_start_wait_time_s=str(START_S))
    for _ in range(TRIES):
        started = _start(folder, token, env)
        if _answers(started):
            break
        kill(started.process)
    else:
        raise AssertionError((folder / "log").read_text())
    try:
        yield started
    finally:  # at once: told to end, Ray takes half a minute
        kill(started.process)


def new_token(folder: Path) -> Path:
    """The file of a token that `ray get-auth-token --generate` has made for a user of this home."""
    command = [str(BIN / "ray"), "get-auth-token", "--generate"]
    done = subprocess.run(
        command, env=environment(HOME=str(folder)), capture_output=True, text=True, check=True
    )
    made = folder / ".ray/auth_token"
    assert made.read_text() == done.stdout
    return made


def _start(folder: Path, token: Path, env: Mapping[str, str]) -> Head:
    gcs, dashboard = free_port(), free_port()
    command = ["start", "--head", "--block", "--num-cpus=2", f"--port={gcs}"]
    command += [f"--dashboard-port={dashboard}", f"--object-store-memory={OBJECT_STORE}"]
    # Its default is one port for all: beside another cluster the agent would not take jobs.
    command += [f"--dashboard-agent-listen-port={free_port()}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(BIN / "ray"), *command], env=env, stdout=log, stderr=log)
    return Head(
        dashboard=f"http://127.0.0.1:{dashboard}",
        gcs=f"127.0.0.1:{gcs}",
        token=token,
        process=process,
    )


def kill(process: subprocess.Popen[Any]) -> None:
    """Kill a process and all that it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        kill_tree(psutil.Process(process.pid))
    process.wait(60)


def kill_tree(process: psutil.Process) -> None:
    """Kill a process after all that it has started."""
    for each in (*process.children(recursive=True), process):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


def _answers(started: Head) -> bool:
    """Whether it takes jobs, once it has had its time to start."""
    from ray.job_submission import JobSubmissionClient

    give_up = time.monotonic() + START_S
    headers = {"Authorization": f"Bearer {started.token.read_text()}"}
    while started.process.poll() is None and time.monotonic() < give_up:
        try:
            JobSubmissionClient(started.dashboard, headers=headers).submit_job(entrypoint="true")
        except Exception:  # there is no dashboard yet, or no agent that takes jobs
            time.sleep(0.5)
        else:
            return True
    return False


def kill_those_of(port: int) -> None:
    """Kill the processes of the cluster whose state is at a port; they are nobody's children."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = process.cmdline()
            if any(word.endswith((f":{port}", f"gcs_server_port={port}")) for word in words):
                kill_tree(process)


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
