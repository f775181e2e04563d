"""Starts the worker processes of the tests' Ray clusters by fork, from one that has imported all.

Ray (2.60) starts each worker as a program of its own that imports `ray` twice (its
`setup_worker.py`, then `default_worker.py`) and Ray Data once: 2.5 seconds of CPU time, for each
of the five to ten processes of a run. Here a server imports all of it once and forks:

    raylet -> client.py (in place of setup_worker.py) -> server.py -> fork: the worker itself

A worker is a process as any other: it has its own pid, streams and environment, and dies alone.
What needs the real start (`ray start`, the command in a process of its own) has it.
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
def forked_workers() -> Iterator[None]:
    """Within the block, clusters that this process starts fork their workers."""
    from ray._private import ray_constants

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
        with (
            mock.patch.dict(os.environ, {SOCKET: socket}),
            mock.patch.object(ray_constants, "SETUP_WORKER_FILENAME", str(HERE / "client.py")),
        ):
            yield
        server.stdin.close()
        server.wait()
