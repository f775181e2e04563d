from __future__ import annotations

import subprocess
import sys
import time

import psutil  # type: ignore[import-untyped]

PARENT = """
import os, signal, subprocess
from pipeline.engine.orphans import OrphanCleanup
child = subprocess.Popen(["sleep", "100"])
orphan_cleanup = OrphanCleanup([child.pid])
print(child.pid, flush=True)
{then}
"""


def child_of(then: str) -> psutil.Process:
    """Run a process that ties a child to itself; gives back the child once the parent is gone."""
    code = PARENT.format(then=then)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.wait(timeout=20)
    return child


def test_a_process_ends_with_a_parent_that_was_killed() -> None:
    child = child_of("os.kill(os.getpid(), signal.SIGKILL)")
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_cancelled_cleanup_leaves_it_alone() -> None:
    child = child_of("orphan_cleanup.cancel()")
    try:
        time.sleep(1)
        assert child.status() == psutil.STATUS_SLEEPING
    finally:
        child.kill()
