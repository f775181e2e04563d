"""Answers requests with vLLM, which runs our model in a process of its own (`vllm_process`).

Decides how that process is started and watched, and what its end means. vLLM is not imported here:
the actor that holds an engine stays small, and what Ray does in it cannot hold up the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from pipeline.contract.errors import RowError, UserError, one_line
from pipeline.contract.record import Outcome
from pipeline.engine.adapters import fetch_adapters
from pipeline.engine.channel import (
    Abort,
    Ask,
    Begin,
    Close,
    Died,
    NotStarted,
    Progress,
    Ready,
    Starting,
)
from pipeline.engine.engine_process import (
    Ahead,
    adopt,
    spawn,
    started_ahead,
    wait_for_end,
)
from pipeline.engine.interface import Backend, EngineDiedError, EngineStats
from pipeline.engine.models.fetched import fetched, is_here
from pipeline.engine.orphans import OrphanCleanup
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

    _Answer = Generation | RowError | EngineDiedError
    _Future = asyncio.Future[Generation]

SHUTDOWN_SECONDS = 30.0


class VllmEngine:
    """An `InferenceEngine`; made once the weights are loaded, which takes seconds to minutes.

    Args:
        config: The engine.
        ahead: A process that was started ahead of this, if there is one.

    Raises:
        UserError: The installed vLLM has no device here, or refuses one of `engine_args`; or the
            model cannot be fetched to this machine.
        RuntimeError: It did not start for another reason.
    """

    def __init__(self, config: EngineConfig, ahead: Ahead | None = None) -> None:
        if not is_here(config.model):
            tell_step("fetch")
        fetched(config.model, config.model_options)
        fetch_adapters(config, config.model_options)
        self._sockets = SocketFolder()
        adopted = adopt(ahead) if ahead else None
        pid = adopted.process.pid if adopted else None
        self._orphan_cleanup = OrphanCleanup(self._sockets.path, adopted=pid)
        self._engine = adopted or spawn()
        self._channel = self._engine.channel
        self._start: dict[str, float] = {}
        try:
            environment = {**os.environ, VARIABLE: self._sockets.path}
            self._channel.send(Begin(config, environment))
            self._ready = self._wait_until_ready()
        except Exception:
            self._end(0)
            raise  # on SIGTERM, which raises no `Exception`, the watcher stays to the end
        self._orphan_cleanup.engine_is_ready()
        self._watchdog = Watchdog(config.stall_seconds)
        self._is_watched = False
        self._asked: dict[int, asyncio.Future[Generation]] = {}
        self._numbers = itertools.count()
        self._death: EngineDiedError | None = None
        self._stats = self._stats_at(Progress(running=0, waiting=0, steps=0))
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
        number = next(self._numbers)
        self._asked[number] = future
        try:
            if self._death is not None:
                raise self._death
            self._send(Ask(number, key, rendered))
            return await future
        except asyncio.CancelledError:
            self._channel.send(Abort(number, key))
            raise
        finally:
            self._asked.pop(number, None)

    def _send(self, message: Ask) -> None:
        """Raises RowError where the request holds what only its own process knows."""
        try:
            self._channel.send(message)
        except Exception as error:  # whatever pickling somebody's objects raises
            fault = f"the request cannot be sent to the engine: {one_line(error)}"
            raise RowError(Outcome.ENGINE_ERROR, "generate", fault) from error

    def stats(self) -> EngineStats:
        """See `InferenceEngine.stats`."""
        return self._stats

    def close(self) -> None:
        """Stop the engine and its processes; to be called at exit too.

        It gets time to end its workers: killed before that, it leaves shared memory behind.
        """
        self._is_watched = False  # or what the engine still says would start the watchdog again
        self._watchdog.stop()
        self._channel.send(Close())
        self._end(SHUTDOWN_SECONDS)
        self._reader.join()

    def _wait_until_ready(self) -> Ready:
        """Follow the engine's start, and keep how long each of its steps took."""
        last: Starting | None = None
        while True:
            message = self._receive()
            if last is not None and isinstance(message, Starting | Ready):
                self._start[last.step] = round(message.at - last.at, 3)
            match message:
                case Starting():
                    last = message
                    tell_step(message.step)
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
            return Died(f"its process ended{self._how()}")
        except Exception as error:  # what it sent cannot be read
            return Died(one_line(error))

    def _how(self) -> str:
        """How the engine's process ended, as far as that can be known."""
        try:
            status = self._engine.process.wait(SHUTDOWN_SECONDS)
        except psutil.TimeoutExpired:
            status = None
        if status is None:  # it is another one's child
            return ""
        return f" ({signal.Signals(-status).name if status < 0 else f'status {status}'})"

    def _read(self) -> None:
        """Hand answers to those who wait for them, until the engine ends."""
        while not isinstance(message := self._receive(), Died):
            assert isinstance(message, Progress)
            self._stats = self._stats_at(message)  # asked for more often, for every row
            if self._is_watched:
                self._watchdog.reset()
            self._settle(message.answers.items())
        self._sockets.remove()  # whoever holds this engine ends its process now
        self._death = EngineDiedError(f"the engine died: {message.message}")
        self._settle((number, self._death) for number in [*self._asked])

    def _stats_at(self, last: Progress) -> EngineStats:
        return EngineStats(
            slots=self._ready.slots,
            kv_tokens=self._ready.kv_tokens,
            running=last.running,
            waiting=last.waiting,
            steps=last.steps,
            prompt_tokens=last.prompt_tokens,
            cached_tokens=last.cached_tokens,
            start=self._start,
        )

    def _settle(self, answers: Iterable[tuple[int, _Answer]]) -> None:
        """Hand answers out, all those that one event loop waits for in one call to it."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Future, _Answer]]] = {}
        for number, answer in answers:
            future = self._asked.get(number)
            if future is not None:
                by_loop.setdefault(future.get_loop(), []).append((future, answer))
        for loop, found in by_loop.items():
            with contextlib.suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(_set, found)

    def _end(self, patience: float) -> None:
        """Wait for the engine's process to end; after so many seconds, end it."""
        wait_for_end(self._engine.process, patience)
        self._orphan_cleanup.cancel()
        self._sockets.remove()


VLLM = Backend(
    name="vllm",
    renderer=GemmaRenderer,
    engine=VllmEngine,
    follow_up_renderer=GemmaRenderer,
    ahead=partial(started_ahead, VllmEngine),
    needs=("vLLM",),
    check=check_engine_args,
)


def _set(answers: Iterable[tuple[_Future, _Answer]]) -> None:
    """Within the futures' own loop."""
    for future, answer in answers:
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
