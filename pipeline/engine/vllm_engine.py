"""Answers requests with vLLM, which runs our model in a process of its own (`vllm_process`).

Decides how that process is started and watched, and what its end means. vLLM is not imported here:
the actor that holds an engine stays small, and what Ray does in it cannot hold up the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from threading import Thread
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import RowError, UserError
from pipeline.engine.channel import (
    Abort,
    Ask,
    Channel,
    Close,
    Died,
    NotStarted,
    Progress,
    Ready,
    Starting,
)
from pipeline.engine.interface import Backend, EngineDiedError, EngineStats
from pipeline.engine.orphans import OrphanCleanup
from pipeline.engine.preload import preloaded
from pipeline.engine.renderer import GemmaRenderer
from pipeline.engine.sockets import VARIABLE, SocketFolder
from pipeline.engine.startup import tell_step
from pipeline.engine.vllm_settings import check_engine_args
from pipeline.engine.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Generation
    from pipeline.engine.interface import Rendered

SHUTDOWN_SECONDS = 30.0
MODULE = "pipeline.engine.vllm_process"


class VllmEngine:
    """An `InferenceEngine`; made once the weights are loaded, which takes seconds to minutes.

    Args:
        config: The engine.

    Raises:
        UserError: The installed vLLM has no device here, or refuses one of `engine_args`.
        RuntimeError: It did not start for another reason.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._sockets = SocketFolder()
        self._orphan_cleanup = OrphanCleanup(self._sockets.path)
        self._start: dict[str, float] = {}
        self._process, self._channel = _spawned(self._sockets)
        try:
            self._channel.send(config)
            self._ready = self._wait_until_ready()
        except Exception:
            self._end_process(0)
            raise  # on SIGTERM, which raises no `Exception`, the watcher stays to the end
        self._orphan_cleanup.engine_is_ready()
        self._watchdog = Watchdog(config.stall_seconds)
        self._is_watched = False
        self._asked: dict[str, asyncio.Future[Generation]] = {}
        self._death: EngineDiedError | None = None
        self._last = Progress(running=0, waiting=0, steps=0)
        self._reader = Thread(target=self._read, name="answers", daemon=True)
        self._reader.start()

    @property
    def model_class(self) -> str:
        """See `InferenceEngine.model_class`; reported by the engine's workers."""
        return self._ready.model_class

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        """See `InferenceEngine.generate`.

        Raises:
            RowError: vLLM refused or ended this request.
            EngineDiedError: The engine's process is dead.
        """
        if not self._is_watched:
            self._is_watched = True
            self._watchdog.__enter__()
        future: asyncio.Future[Generation] = asyncio.get_running_loop().create_future()
        self._asked[key] = future
        if self._death is not None:
            raise self._death
        self._channel.send(Ask(key, rendered))
        try:
            return await future
        except asyncio.CancelledError:
            self._channel.send(Abort(key))
            raise
        finally:
            self._asked.pop(key, None)

    def stats(self) -> EngineStats:
        """See `InferenceEngine.stats`."""
        return EngineStats(
            slots=self._ready.slots,
            kv_tokens=self._ready.kv_tokens,
            running=self._last.running,
            waiting=self._last.waiting,
            steps=self._last.steps,
            start=self._start,
        )

    def close(self) -> None:
        """Stop the engine and its processes; to be called at exit too.

        It gets time to end its workers: killed before that, it leaves shared memory behind.
        """
        self._watchdog.stop()
        self._channel.send(Close())
        self._end_process(SHUTDOWN_SECONDS)
        self._reader.join()

    def _wait_until_ready(self) -> Ready:
        """Follow the engine's start, and keep how long each of its steps took."""
        step, began = "", time.monotonic()
        while True:
            message = self._receive()
            if step:
                self._start[step] = round(time.monotonic() - began, 3)
            match message:
                case Starting():
                    step, began = message.step, time.monotonic()
                    tell_step(step)
                case Ready():
                    return message
                case NotStarted():
                    raise (UserError if message.is_users else RuntimeError)(message.message)
                case Died():
                    raise RuntimeError(message.message)

    def _receive(self) -> Any:
        """The engine's next message; `Died` once its process is gone."""
        try:
            return self._channel.receive()
        except EOFError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(SHUTDOWN_SECONDS)
            return Died(f"its process ended ({_how(self._process.returncode)})")

    def _read(self) -> None:
        """Hand answers to those who wait for them, until the engine ends."""
        while not isinstance(message := self._receive(), Died):
            assert isinstance(message, Progress)
            self._last = message
            if self._is_watched:
                self._watchdog.reset()
            self._settle((key, message.answers[key]) for key in message.answers)
        self._sockets.remove()  # whoever holds this engine ends its process now
        self._death = EngineDiedError(f"the engine died: {message.message}")
        self._settle((key, self._death) for key in [*self._asked])

    def _settle(
        self, answers: Iterable[tuple[str, Generation | RowError | EngineDiedError]]
    ) -> None:
        for key, answer in answers:
            future = self._asked.get(key)
            if future is not None:
                with contextlib.suppress(RuntimeError):  # its loop is closed
                    future.get_loop().call_soon_threadsafe(_set, future, answer)

    def _end_process(self, patience: float) -> None:
        """Wait for the engine's process to end; after so many seconds, end it."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._orphan_cleanup.cancel()
        self._sockets.remove()


VLLM = Backend(
    name="vllm",
    renderer=GemmaRenderer,
    engine=VllmEngine,
    needs=("vLLM",),
    check=check_engine_args,
)


def _spawned(sockets: SocketFolder) -> tuple[subprocess.Popen[bytes], Channel]:
    """The engine's process, and the channel to it."""
    ours, theirs = socket.socketpair()
    environment = {
        **preloaded(os.environ),
        # Our process is the engine's own; vLLM would start another for its core.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        VARIABLE: sockets.path,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }
    with theirs:
        process = subprocess.Popen(  # noqa: S603  our own module and a number
            [sys.executable, "-P", "-m", MODULE, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    return process, Channel(ours)


def _how(status: int | None) -> str:
    """How a process ended."""
    if status is None:
        return "it is still there"
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def _set(
    future: asyncio.Future[Generation], answer: Generation | RowError | EngineDiedError
) -> None:
    """Within the future's own loop."""
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
