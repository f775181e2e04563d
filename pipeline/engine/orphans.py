"""Ends an engine's processes when the process that started them is gone, however it went.

vLLM's engine core does not notice that its parent was killed (0.32), and would keep the memory of a
GPU or a CPU for good. A small watcher process waits for the parent's end of a pipe to close.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ENGINE_ACTOR_ENV = {"RAY_kill_child_processes_on_worker_exit": "0"}
"""Environment of an actor that holds an engine. By default Ray (2.60) kills the engine's processes
as soon as the actor exits, so that they leave their shared memory behind."""
END_S = 30
"""How long the processes are given to end by themselves, before they are killed."""

_WATCHER = f"""
import os, signal, sys, time

def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

pids = [int(pid) for pid in sys.argv[1:]]
sys.stdin.buffer.read()
deadline = time.monotonic() + {END_S}
for pid in filter(alive, pids):
    os.kill(pid, signal.SIGTERM)
while any(map(alive, pids)) and time.monotonic() < deadline:
    time.sleep(0.2)
for pid in filter(alive, pids):
    os.kill(pid, signal.SIGKILL)
"""


class OrphanCleanup:
    """Ties processes to this one.

    Args:
        pids: Ids of the processes to end when this one has.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._watcher = subprocess.Popen(  # noqa: S603  our own script, and numbers
            [sys.executable, "-I", "-S", "-c", _WATCHER, *map(str, pids)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # an interrupt from the keyboard must not end the watcher
        )

    def cut(self) -> None:
        """Forget the processes: they have ended."""
        self._watcher.kill()
        self._watcher.communicate()
