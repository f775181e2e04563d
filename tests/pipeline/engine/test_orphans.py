"""Nothing that an engine's process started outlives it; what others started does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from pipeline.engine.orphans import ENGINE_ACTOR_ENV

PARENT = """
import os, signal, subprocess, sys, time
from pipeline.engine.orphans import OrphanCleanup, end_process

def start(code):
    told, tells = os.pipe()
    child = subprocess.Popen([sys.executable, "-c", code, str(tells)], pass_fds=[tells])
    os.close(tells)
    os.read(told, 1)
    return child

TELL = "import os, sys; os.write(int(sys.argv[1]), b'r'); os.close(int(sys.argv[1]))"
SLEEP = f"import os, time; print(os.getpid(), flush=True); {TELL}; time.sleep(600)"
DEAF = f"import signal; signal.signal(15, signal.SIG_IGN); {SLEEP}"
# A core that starts a worker when it is asked to end, as vLLM's has been seen to do.
CORE = f'''
LINGER = 0
import os, subprocess, sys, time, signal
def leave(*_):
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(worker.pid, flush=True)  # it may be ended before it could
    time.sleep(LINGER)
    os._exit(0)
signal.signal(15, leave)
{SLEEP}
'''
"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"


def family(then: str, *, in_actor: bool = True) -> list[int]:
    """Run a process to its end; gives the ids that it and its children printed.

    Returns once all that hold its standard output have ended.
    """
    environment = {**os.environ, **(ENGINE_ACTOR_ENV if in_actor else {})}
    command = [sys.executable, "-c", PARENT + then]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as parent:
        out, _ = parent.communicate(timeout=45)
    return [int(pid) for pid in out.split()]


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def ends(pid: int) -> bool:
    """Whether a process ends soon: what it had open is closed a moment earlier."""
    give_up = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < give_up:
        time.sleep(0.02)
    return not is_running(pid)


@pytest.mark.parametrize("end", [KILLED, "os._exit(1)", "end_process()"])
def test_a_process_ends_with_its_parent_however_early_that_ends(end: str) -> None:
    (child,) = family(f"cleanup = OrphanCleanup(); start(SLEEP); {end}")
    assert ends(child)


@pytest.mark.parametrize("in_actor", [True, False])
def test_what_starts_while_the_others_end_ends_too(in_actor: bool) -> None:
    then = "cleanup = OrphanCleanup(); start(CORE)\n"
    if not in_actor:  # what was not seen while its parent lived is not found
        then = (
            then.replace("CORE", "CORE.replace('LINGER = 0', 'LINGER = 1')") + "time.sleep(1.5)\n"
        )
    then += f"cleanup.engine_is_ready(); {KILLED}"
    core, worker = family(then, in_actor=in_actor)
    assert ends(core)
    assert ends(worker)


def test_a_start_is_cut_short() -> None:
    (child,) = family(f"cleanup = OrphanCleanup(); start(DEAF); {KILLED}")
    assert ends(child)


def test_a_forked_child_does_not_hide_that_its_parent_has_ended() -> None:
    then = (
        "cleanup = OrphanCleanup(); child = os.fork()\n"
        "if not child: time.sleep(600)\n"
        f"print(child, flush=True); {KILLED}"
    )
    (child,) = family(then)
    assert ends(child)


@pytest.mark.parametrize("in_actor", [True, False])
def test_what_was_there_before_stays(in_actor: bool) -> None:
    then = (
        "own = subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL)\n"
        "print(own.pid, flush=True)\n"
        "cleanup = OrphanCleanup(); start(SLEEP)\n"
        f"time.sleep(1.5); {KILLED}"
    )
    own, child = family(then, in_actor=in_actor)
    assert ends(child)
    assert is_running(own)
    os.kill(own, signal.SIGKILL)


def test_the_engines_folder_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir()
    (folder / "x").touch()
    then = (
        f"cleanup = OrphanCleanup({str(folder)!r}); print(cleanup._watcher.pid, flush=True)\n"
        f"{KILLED}"
    )
    (watcher,) = family(then)
    assert ends(watcher)
    assert not folder.exists()


def test_a_cancelled_cleanup_leaves_everything_alone() -> None:
    then = (
        "cleanup = OrphanCleanup()\n"
        "own = subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL)\n"
        f"print(own.pid, flush=True); cleanup.cancel(); {KILLED}"
    )
    (own,) = family(then)
    assert is_running(own)
    os.kill(own, signal.SIGKILL)
