"""Starts the worker processes of the tests' Ray clusters by fork, from one that has imported all.

Ray (2.60) starts each worker as a program of its own that imports `ray` twice (its
`setup_worker.py`, then `default_worker.py`) and Ray Data once: 1.4 seconds of CPU time, for each
process of a run. Here a server imports all of it once and forks:

    raylet -> client.py (in place of setup_worker.py) -> server.py -> fork: the worker itself

A worker is a process as any other: it has its own pid, streams and environment, and dies alone.
Its parent is the server, not the raylet: where a node dies with all that it started, and where a
user's own start is tried (`ray start`, the command in a process of its own), workers start as ever.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

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
    """A cluster that is started within the block forks its workers, as long as it runs."""
    from ray._private import ray_constants

    os.environ[SOCKET] = socket  # all else that Ray puts there, such as how it authenticates, stays
    try:
        with mock.patch.object(ray_constants, "SETUP_WORKER_FILENAME", str(HERE / "client.py")):
            yield
    finally:
        del os.environ[SOCKET]
