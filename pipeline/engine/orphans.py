"""Ends an engine's processes when the process that started them has ended, by whatever cause.

vLLM's engine core does not notice that its parent was killed (0.32): it would run on and keep its
memory on the GPU or CPU. A small watcher process waits until the parent's end of a pipe closes.
This can go when the engine core ends by itself (vLLM's issue 55510).
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ENGINE_ACTOR_ENV = {"RAY_kill_child_processes_on_worker_exit": "0"}
"""Environment of an actor that holds an engine. By default Ray (2.60, pull request 33976) kills an
actor's child processes as it exits: the engine's would leave their shared memory behind."""
TERMINATE_SECONDS = 30
"""Time for the processes to end after SIGTERM, before SIGKILL."""

_WATCHER = f"""
import os, shutil, signal, sys, time

def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

folder, *pids = sys.argv[1:]
pids = [int(pid) for pid in pids]
sys.stdin.buffer.read()
deadline = time.monotonic() + {TERMINATE_SECONDS}
for pid in filter(alive, pids):
    os.kill(pid, signal.SIGTERM)
while any(map(alive, pids)) and time.monotonic() < deadline:
    time.sleep(0.2)
for pid in filter(alive, pids):
    os.kill(pid, signal.SIGKILL)
if folder:
    shutil.rmtree(folder, ignore_errors=True)
"""


class OrphanCleanup:
    """Starts a watcher that ends other processes after this one has ended.

    Args:
        pids: Ids of the processes to end.
        folder: A folder of theirs that is removed afterwards.
    """

    def __init__(self, pids: Iterable[int], folder: str = "") -> None:
        self._watcher = subprocess.Popen(  # noqa: S603  our own script, and numbers
            [sys.executable, "-I", "-S", "-c", _WATCHER, folder, *map(str, pids)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # an interrupt from the keyboard must not end the watcher
        )

    def cancel(self) -> None:
        """Stop watching, because the processes have ended or may run on."""
        self._watcher.kill()
        self._watcher.communicate()
