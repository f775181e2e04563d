"""Nothing that an engine starts outlives the process that holds it, however that one ends.

An engine's process ends when the one that holds it is gone, but not while it starts or is stuck in
a step, and vLLM's workers (0.32) do not notice that their parent was killed: they would keep their
memory on the GPU or CPU. So a small process, `orphan_watcher`, is started before the engine. When
the guarded process is gone, it ends all that this has started, however far the engine's start was.
This can go when vLLM's processes end by themselves (vLLM's issue 55510).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import psutil  # type: ignore[import-untyped]

_OF_AN_ENGINE = "GEMMA3_BATCH_ENGINE_ACTOR"
ENGINE_ACTOR_ENV = {"RAY_kill_child_processes_on_worker_exit": "0", _OF_AN_ENGINE: "1"}
"""Environment of an actor that holds an engine, and nothing else. By default Ray (2.60, pull
request 33976) kills an actor's child processes as it exits: the engine's would leave their shared
memory behind."""
_WATCHER = Path(__file__).with_name("orphan_watcher.py")
_watchers: set[int] = set()
"""Ids of this process's watchers."""
_adopted: set[int] = set()
"""Ids of the processes that others have started and that are this one's."""


class OrphanCleanup:
    """Starts a watcher, which ends what this process starts from now on after it has ended.

    To be made before the engine. In an actor (`ENGINE_ACTOR_ENV`) the process gets a process group
    of its own, and the watcher misses nothing. In another process, such as a script in a terminal,
    it misses what was started in the last half second.

    Args:
        folder: A folder that the watcher also removes, for example one with the engine's sockets.
        adopted: A process that another one has started and that is this one's now.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, *, adopted: int | None = None
    ) -> None:
        if adopted is not None:
            _adopted.add(adopted)
        group = _own_group() if os.environ.get(_OF_AN_ENGINE) == "1" else 0
        self._watcher = subprocess.Popen(  # noqa: S603  our own script, numbers and a path
            [
                *(sys.executable, "-I", "-S", str(_WATCHER)),
                *(str(os.getpid()), str(group), os.fspath(folder) if folder else ""),
                *([str(adopted)] if adopted is not None else []),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # An interrupt from the keyboard must not end it. Within a group of our own it stays,
            # so that the group's id cannot become another's.
            start_new_session=not group,
        )
        _watchers.add(self._watcher.pid)
        assert self._watcher.stdout is not None
        self._watcher.stdout.readline()  # it knows by now what was there before

    def engine_is_ready(self) -> None:
        """Give the engine's processes time to end, should it come to that; a start is cut short."""
        assert self._watcher.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._watcher.stdin.write(b"r")
            self._watcher.stdin.flush()

    def cancel(self) -> None:
        """Stop watching, because the processes have ended or may run on."""
        self._watcher.kill()
        self._watcher.communicate()
        _watchers.discard(self._watcher.pid)


def end_process() -> NoReturn:
    """End this actor's process and what it started, so that Ray starts the actor anew.

    What its engine starts in this moment, the watcher ends.
    """
    for pid in [os.getpid(), *_adopted]:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
                if process.pid not in {os.getpid(), *_watchers}:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
    os._exit(1)


def _own_group() -> int:
    """Make this process the leader of a process group; returns the group's id."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    return os.getpid()
