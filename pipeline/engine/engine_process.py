"""How the process in which vLLM runs is started: by the one who holds the engine, or ahead of it.

On a machine where Ray has yet to start, the driver starts the process first: importing vLLM takes
as long as Ray, and so both take place at once. Where it is known which device the engine will have,
since there is only one, it also loads the model. The first engine that is made then takes it over.
In all other cases, and where that fails, an engine starts its own.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pickle
import socket
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

import psutil  # type: ignore[import-untyped]

from pipeline.engine.channel import Begin, Channel
from pipeline.engine.preload import preloaded
from pipeline.engine.sockets import VARIABLE, SocketFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.contract.config import EngineConfig
    from pipeline.engine.interface import InferenceEngine

MODULE = "pipeline.engine.vllm_process"
END_SECONDS = 30.0
STDERR = 2
"""Where all goes that the process prints: vLLM warns on its standard output, while that of the one
who holds the engine may be read by a program."""


class Ahead(NamedTuple):
    """A process that was started ahead: where it listens, and its id. It pickles."""

    path: str
    pid: int


@dataclass(frozen=True)
class EngineProcess:
    """A process that waits for its first message, and the channel to it.

    Attributes:
        process: It.
        channel: To it.
    """

    process: psutil.Process
    channel: Channel


def wait_for_end(process: psutil.Process, patience: float) -> None:
    """Wait for a process to end; after so many seconds, end it and what it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        try:
            process.wait(patience)
        except psutil.TimeoutExpired:
            for left in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()
            process.wait()


def spawn() -> EngineProcess:
    """Start one of our own."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = psutil.Popen(
            _command(theirs),
            pass_fds=[theirs.fileno()],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=STDERR,
        )
    return EngineProcess(process, Channel(ours))


def adopt(ahead: Ahead) -> EngineProcess | None:
    """Take over a process; None if it is gone, or another's by now.

    What it prints goes where this process prints its errors from now on, and it is as nice as this
    process: Ray's workers are nicer than what a user starts, and on a CPU an engine that is not
    keeps them from bringing it rows.
    """
    ours = socket.socket(socket.AF_UNIX)
    mine = f"{ahead.path}-{os.getpid()}"
    try:
        os.rename(ahead.path, mine)  # of several engines that start now, one can
        ours.connect(mine)
        socket.send_fds(ours, [b"-"], [STDERR, STDERR])
        process = psutil.Process(ahead.pid)
        _give_way(process)
        return EngineProcess(process, Channel(ours))
    except (OSError, psutil.NoSuchProcess):
        ours.close()
        return None


def _give_way(process: psutil.Process) -> None:
    """Make a process as nice as this one; no engine fails for it."""
    mine, done = os.getpriority(os.PRIO_PROCESS, 0), set[int]()
    # A thread that starts meanwhile is as nice as the one that starts it was.
    while new := {thread.id for thread in process.threads()} - done:
        for thread in new:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.setpriority(os.PRIO_PROCESS, thread, mine)
        done |= new


@contextlib.contextmanager
def started_ahead(
    make: Callable[..., InferenceEngine], config: EngineConfig
) -> Iterator[Callable[..., InferenceEngine]]:
    """Start one that the first engine made within takes over.

    Args:
        make: Makes an engine; takes an `Ahead` as `ahead`.
        config: The engine.

    Yields:
        Makes an engine, on this machine.
    """
    sockets = SocketFolder()
    path = os.path.join(sockets.path, "engine")
    process = _listening(path)
    if process is None:
        sockets.remove()
        yield make
        return
    begin = Begin(config, {VARIABLE: sockets.path}) if _has_one_device(config) else None
    with contextlib.suppress(BrokenPipeError):  # it is gone; engines start their own
        process.stdin.write(pickle.dumps(begin))
        process.stdin.flush()
    Thread(target=process.wait, daemon=True).start()  # who adopts it sees it end, and no zombie
    try:
        yield partial(make, ahead=Ahead(path, process.pid))
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        wait_for_end(process, END_SECONDS)
        sockets.remove()


def _listening(path: str) -> psutil.Popen | None:
    """A process that listens there; None where the path is too long for a socket, say."""
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(path)
        except OSError:
            return None
        listener.listen(1)
        return psutil.Popen(
            _command(listener),
            pass_fds=[listener.fileno()],
            env=_environment(),
            stdin=subprocess.PIPE,  # until somebody has taken it over, it ends when this closes
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _has_one_device(config: EngineConfig) -> bool:
    """Whether the engine's device is known before Ray gives it one: a CPU, or the only GPU."""
    gpus = len(glob.glob("/dev/nvidia[0-9]*"))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        gpus = min(gpus, len([name for name in named.split(",") if name]))
    return gpus <= 1 and config.tensor_parallel_size == 1


def _command(end: socket.socket) -> list[str]:
    return [sys.executable, "-P", "-m", MODULE, str(end.fileno())]


def _environment() -> dict[str, str]:
    return {
        # Workers of several GPUs; forked, they would have copies of this process's threads' locks.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        **preloaded(os.environ),
        # The process is the engine's own; vLLM would start another for its core.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }
