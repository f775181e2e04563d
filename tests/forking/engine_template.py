"""Has imported vLLM, and forks the processes of engines."""

from __future__ import annotations

import fcntl
import importlib
import os
import runpy
import signal
import sys
from socket import socket

from tests.forking.messages import Wanted
from tests.forking.process import serve, take_on

MODULE = "pipeline.engine.vllm_process"
NEEDED = (
    "gemma3_model.attention_cpu",
    "gemma3_model.scheduling.final_outputs",
    "gemma3_model.scheduling.loops",
    "vllm.renderers.hf",
    "vllm.v1.core.sched.async_scheduler",
    "vllm.v1.worker.cpu_worker",
)
"""What every engine's start imports. `MODULE` itself is the main module of each."""
F_SETSIG = 10
"""Of Linux's `fcntl`; Python's has no name for it."""


def import_needed() -> None:
    """Import vLLM and what an engine's start loads after it."""
    from pipeline.engine.vllm_start import import_vllm

    import_vllm()
    for module in NEEDED:
        importlib.import_module(module)


def be_engine(asked: Wanted, files: list[int], connection: int) -> None:
    """Be the one who waits for the engine, and tells its client how it ended."""
    engine = os.fork()
    if engine == 0:
        end_with_client(connection)
        run(asked, files)
        return
    for file in files:
        os.close(file)
    _, status = os.waitpid(engine, 0)
    code = os.waitstatus_to_exitcode(status)
    os.write(connection, code.to_bytes(4, "big", signed=True))
    os._exit(0)


def end_with_client(connection: int) -> None:
    """Have the kernel kill this process once its client has ended, however busy it is."""
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_ASYNC)


def run(asked: Wanted, files: list[int]) -> None:
    """Be the engine until it ends."""
    *streams, channel = files
    sys.path[:0] = take_on(asked, streams)
    sys.argv = [MODULE, str(channel)]
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    import_needed()
    serve(socket(fileno=int(sys.argv[1])), be_engine)
