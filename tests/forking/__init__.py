"""Starts the tests' Ray workers and engine processes by fork, from ones that have imported all.

Ray (2.60) starts each worker as a program of its own that imports `ray` twice (its
`setup_worker.py`, then `default_worker.py`) and Ray Data once: 1.4 seconds of CPU time, for each
process of a run. An engine's process imports vLLM: five to twelve seconds. Here templates import
all of it once and fork:

    raylet -> client.py (as setup_worker.py) -> server.py -> ray_template.py -> the worker
    a run  -> client.py (as vllm_process)    -> server.py -> engine_template.py -> the engine

So do the clusters and engines of commands that tests start, by way of `commands/sitecustomize.py`.

What is forked is a process as any other: it has its own pid, streams and environment. Its parent
is the template. A worker dies alone; an engine ends with its client, and its client as it did.
Where tests look for processes that outlive others, and where a user's cluster is tried (`ray
start`, the wheel's environment), processes start as ever, for want of `SOCKET`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.forking.commands.sitecustomize import SOCKET, fork_processes

__all__ = ["SOCKET", "fork_server", "forking", "unforked"]

HERE = Path(__file__).parent


@contextlib.contextmanager
def fork_server() -> Iterator[str]:
    """A server as long as the block; gives its socket, for `forking`."""
    with tempfile.TemporaryDirectory() as folder:
        socket = str(Path(folder) / "socket")
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.forking.server", socket],
            stdin=subprocess.PIPE,  # its end is the server's end
            stdout=subprocess.PIPE,
            cwd=HERE.parents[1],
        )
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n", "the fork server did not start"
        try:
            yield socket
        finally:
            server.stdin.close()
            server.wait()


@contextlib.contextmanager
def forking(socket: str) -> Iterator[None]:
    """What this process or its commands start within the block is forked."""
    python_path = os.environ.get("PYTHONPATH", "")
    os.environ[SOCKET] = socket
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE / "commands"), python_path]))
    fork_processes()
    try:
        yield
    finally:
        del os.environ[SOCKET]  # without it the rest does nothing


def unforked() -> dict[str, str]:
    """This environment, in which a command starts its processes as ever."""
    return {name: value for name, value in os.environ.items() if name != SOCKET}
