"""Starts the worker processes of the tests' Ray clusters by fork, from one that has imported all.

Ray (2.60) starts each worker as a program of its own that imports `ray` twice (its
`setup_worker.py`, then `default_worker.py`) and Ray Data once: 1.4 seconds of CPU time, for each
process of a run. Here a server imports all of it once and forks:

    raylet -> client.py (in place of setup_worker.py) -> server.py -> fork: the worker itself

So do the clusters of commands that tests start, by way of `commands/sitecustomize.py`.

A worker is a process as any other: it has its own pid, streams and environment, and dies alone.
Its parent is the server, not the raylet. Where tests look for processes that outlive others, and
where a user's cluster is tried (`ray start`, the wheel's environment), workers start as ever, for
want of `SOCKET`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.ray_workers.commands.sitecustomize import fork_workers

HERE = Path(__file__).parent
SOCKET = "TESTS_FORK_SERVER"
"""The environment variable that tells a client where the server listens."""


@contextlib.contextmanager
def fork_server() -> Iterator[str]:
    """A server as long as the block; gives its socket, for `forking`."""
    with tempfile.TemporaryDirectory() as folder:
        socket = str(Path(folder) / "socket")
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.ray_workers.server", socket],
            stdin=subprocess.PIPE,  # its end is the server's end
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
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
    """Clusters that this process or its commands start within the block fork their workers."""
    python_path = os.environ.get("PYTHONPATH", "")
    os.environ[SOCKET] = socket
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE / "commands"), python_path]))
    fork_workers()
    try:
        yield
    finally:
        del os.environ[SOCKET]  # without it the rest does nothing


def unforked() -> dict[str, str]:
    """This environment, in which a command's cluster starts its workers as ever."""
    return {name: value for name, value in os.environ.items() if name != SOCKET}
