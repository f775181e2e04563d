"""Engines and renderers in Ray actors of their own, which outlive a run.

A run's stages reach them through a `Backend` of connections and claim no GPU themselves. Decides
what these actors claim; that a failure of a row travels as a value and not as an exception, which
Ray would wrap; and what happens when an engine dies: its actor ends, Ray starts it anew, and
meanwhile no request goes there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pipeline.contract.errors import Fault, RowError, RunError, UserError, one_line
from pipeline.contract.record import Outcome
from pipeline.engine.interface import Backend, EngineDiedError, EngineStats
from pipeline.engine.orphans import ENGINE_ACTOR_ENV, end_process
from pipeline.engine.startup import attempt
from pipeline.engine.vllm_engine import VLLM
from pipeline.engine.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Generation, Request
    from pipeline.engine.interface import InferenceEngine, Rendered, Renderer

T = TypeVar("T")

MAX_CONCURRENT_CALLS = 10_000
"""Calls an engine's actor takes at once; more than any engine works on."""
CLOSE_SECONDS = 60.0
LOOK_SECONDS = 0.5
"""Time between two looks at an actor that Ray starts anew."""
RESTART_SECONDS = 1800.0
"""Time for an engine to come back, its model's start included."""
RENDERER_RESTART_SECONDS = 300.0


@dataclass(frozen=True)
class WarmHosts:
    """Handles of the started actors.

    Attributes:
        engines: Of `EngineHost`.
        renderers: Of `RendererHost`.
        holds: The backend whose engines and renderers they hold.
    """

    engines: Sequence[Any]
    renderers: Sequence[Any]
    holds: Backend = VLLM

    @classmethod
    def start(
        cls,
        config: EngineConfig,
        *,
        engines: int,
        renderers: int,
        gpus_per_engine: int,
        holds: Backend = VLLM,
    ) -> Self:
        """Start the actors; returns once all models and tokenizers are loaded.

        Args:
            config: The engine.
            engines: Number of engines.
            renderers: Number of renderers.
            gpus_per_engine: GPUs each engine's actor claims; 0 on a CPU.
            holds: Makes the engines and the renderers.

        Raises:
            UserError: An engine or a renderer cannot start because of the configuration.
            RunError: One did not start for another reason.
        """
        import ray

        # They claim no CPU, so that the stages of the runs find theirs.
        engine = ray.remote(EngineHost).options(
            num_cpus=0,
            num_gpus=gpus_per_engine,
            max_concurrency=MAX_CONCURRENT_CALLS,
            max_restarts=-1,
            runtime_env={"env_vars": ENGINE_ACTOR_ENV},
        )
        renderer = ray.remote(RendererHost).options(num_cpus=0, max_restarts=-1)
        hosts = cls(
            [engine.remote(config, holds.engine) for _ in range(engines)],
            [renderer.remote(config, holds.renderer) for _ in range(renderers)],
            holds,
        )
        try:
            hosts._check()
        except BaseException:
            hosts._kill()
            raise
        return hosts

    def _check(self) -> None:
        import ray
        from ray.exceptions import RayError

        hosts = (*self.engines, *self.renderers)
        try:
            faults: list[Fault | None] = ray.get([host.fault.remote() for host in hosts])
        except RayError as error:
            raise RunError(f"the engine did not start: {one_line(error)}") from error
        for fault in filter(None, faults):
            raise (UserError if fault.is_users else RunError)(fault.message)

    def backend(self) -> Backend:
        """What a run uses in place of engines of its own."""
        return Backend(
            name=self.holds.name,
            renderer=partial(_connect_renderer, self.renderers),
            engine=partial(_connect_engine, self.engines),
            follow_up_renderer=self.holds.follow_up_renderer,
            holds_gpus=False,
            answering=len(self.engines),
            takes_encoded=self.holds.takes_encoded,
            needs=self.holds.needs,
            check=self.holds.check,
        )

    def close(self) -> None:
        """Stop the engines, then end all actors."""
        import ray
        from ray.exceptions import RayError

        with contextlib.suppress(RayError):
            ray.get([host.close.remote() for host in self.engines], timeout=CLOSE_SECONDS)
        self._kill()

    def _kill(self) -> None:
        import ray

        for host in (*self.engines, *self.renderers):
            ray.kill(host)


class EngineHost:
    """The actor that holds an engine. It ends when the engine dies, and Ray starts it anew."""

    def __init__(
        self, config: EngineConfig, make_engine: Callable[[EngineConfig], InferenceEngine]
    ) -> None:
        self._engine = attempt(make_engine, config, "the engine")

    async def generate(
        self, rendered: Rendered, key: str
    ) -> Generation | RowError | EngineDiedError | Fault:
        """As `InferenceEngine.generate`, but returns a failure of the row or the run as a value.

        A host that Ray started anew, and whose engine did not start, returns `EngineDiedError`.
        """
        if isinstance(self._engine, Fault):
            return EngineDiedError(f"the engine died: {self._engine.message}")
        try:
            return await self._made.generate(rendered, key)
        except RowError as error:
            return error
        except EngineDiedError as error:
            if error.fault is not None:  # there is no use in another one in its place
                return error.fault
            logging.getLogger(__name__).error("%s; this process ends", error)
            end_process()
        except Exception as error:
            return RowError(Outcome.ENGINE_ERROR, "generate", one_line(error))

    async def model_class(self) -> str:
        """See `InferenceEngine.model_class`."""
        return self._made.model_class

    async def fault(self) -> Fault | None:
        """Why the engine did not start, or None; answers once it is loaded."""
        return self._engine if isinstance(self._engine, Fault) else None

    async def close(self) -> None:
        """Stop the engine's processes."""
        self._made.close()

    @property
    def _made(self) -> InferenceEngine:
        assert not isinstance(self._engine, Fault), "used though it did not start"
        return self._engine


class RendererHost:
    """The actor that holds a renderer."""

    def __init__(
        self, config: EngineConfig, make_renderer: Callable[[EngineConfig], Renderer]
    ) -> None:
        self._renderer = attempt(make_renderer, config, "a renderer")
        self._watchdog = Watchdog(config.stall_seconds)

    def render(self, request: Request, images: Sequence[Image]) -> Rendered | RowError:
        """As `Renderer.render`, but returns a row's failure instead of raising it."""
        if isinstance(self._renderer, Fault):  # it was started anew, and could not
            end_process()
        try:
            with self._watchdog:
                return self._made.render(request, images)
        except RowError as error:
            return error
        except Exception as error:  # fails the row, as with a renderer of the run's own
            return _render_error(error)

    def count(self, text: str) -> int | RowError:
        """As `Renderer.count`, but returns a failure instead of raising it."""
        try:
            return self._made.count(text)
        except Exception as error:
            return _render_error(error)

    def fault(self) -> Fault | None:
        """Why the renderer did not start, or None; answers once it is loaded."""
        return self._renderer if isinstance(self._renderer, Fault) else None

    @property
    def _made(self) -> Renderer:
        assert not isinstance(self._renderer, Fault), "used though it did not start"
        return self._renderer


@dataclass
class EngineConnection:
    """An `InferenceEngine` that sends each request to the host with the fewest in flight.

    A host that died gets no requests until its engine is loaded again.

    Attributes:
        hosts: Handles of `EngineHost` actors.
        model_class: See `InferenceEngine.model_class`; empty before the first request.
    """

    hosts: Sequence[Any]
    model_class: str = ""
    _in_flight: Counter[int] = field(default_factory=Counter)
    _ready: set[int] = field(default_factory=set)
    _returns: dict[int, asyncio.Task[Fault | None]] = field(default_factory=dict)

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        """See `InferenceEngine.generate`.

        Raises:
            RowError: This request failed.
            EngineDiedError: The host died while it worked on this; or no host comes back.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        number = await self._choose()
        self._in_flight[number] += 1
        host = self.hosts[number]
        try:
            reference = host.generate.remote(rendered, key)
            answer: Generation | RowError | EngineDiedError | Fault = await reference
            if isinstance(answer, EngineDiedError):
                self._lose(number)
                raise answer
            self.model_class = self.model_class or await host.model_class.remote()
        except RayTaskError as error:  # the host lives, and could not read the request
            raise RowError(Outcome.ENGINE_ERROR, "generate", one_line(error.cause)) from error
        except RayError as error:
            self._lose(number)
            raise EngineDiedError(f"the engine died: {one_line(error)}") from error
        except asyncio.CancelledError:  # Ray would let the host go on
            ray.cancel(reference)
            raise
        finally:
            self._in_flight[number] -= 1
        if isinstance(answer, Fault):
            raise EngineDiedError(answer.message, answer)
        return _or_raise(answer)

    async def _choose(self) -> int:
        """A host that is ready; waits until one is."""
        if not self._returns:
            for number in range(len(self.hosts)):
                self._lose(number)
        while not self._ready:
            waits = [wait for wait in self._returns.values() if not wait.done()]
            if not waits:
                faults = [wait.result() for wait in self._returns.values()]
                raise EngineDiedError("no engine came back", next(filter(None, faults), None))
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return min(self._ready, key=lambda number: self._in_flight[number])

    def _lose(self, number: int) -> None:
        """Send nothing to a host until it is ready, which is not known of a new one either."""
        self._ready.discard(number)
        if number not in self._returns or self._returns[number].done():
            self._returns[number] = asyncio.create_task(self._return(number))

    async def _return(self, number: int) -> Fault | None:
        """Wait until a host's engine is loaded; returns why that will not be."""
        from ray.exceptions import RayError

        give_up = time.monotonic() + RESTART_SECONDS
        while True:
            try:
                fault: Fault | None = await self.hosts[number].fault.remote()
            except RayError as error:
                if time.monotonic() >= give_up:
                    message = f"the engine did not come back: {one_line(error)}"
                    return Fault(ends_run=True, message=message)
                await asyncio.sleep(LOOK_SECONDS)
                continue
            if fault is None:
                self._ready.add(number)
            return fault

    def stats(self) -> EngineStats:
        """Nothing: other runs may use the hosts too."""
        return EngineStats()

    def close(self) -> None:
        """Leaves the hosts running."""


class RendererConnection:
    """A `Renderer` that sends requests to its hosts in turn.

    A renderer whose host dies ends its own process, as if it had died itself: the rows of the block
    are tried again, and the one that is the cause is found as in any other run.

    Args:
        hosts: Handles of `RendererHost` actors.
        max_model_len: See `Renderer.max_model_len`.
    """

    def __init__(self, hosts: Sequence[Any], max_model_len: int) -> None:
        self.max_model_len = max_model_len
        self._hosts = hosts
        self._turn = 0
        self._seen_alive: set[int] = set()

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        """See `Renderer.render`.

        Raises:
            RowError: This request cannot be rendered.
        """
        answer: Rendered | RowError = self._call("render", request, images)
        return _or_raise(answer)

    def count(self, text: str) -> int:
        """See `Renderer.count`.

        Raises:
            RowError: It cannot be counted.
        """
        answer: int | RowError = self._call("count", text)
        return _or_raise(answer)

    def _call(self, method: str, *arguments: object) -> Any:
        import ray
        from ray.exceptions import RayActorError

        try:
            return ray.get(getattr(self._next(), method).remote(*arguments))
        except (RayActorError, TimeoutError) as error:
            logging.getLogger(__name__).error("%s; this process ends", one_line(error))
            end_process()

    def _next(self) -> Any:
        """The next host; one that was not used yet only if it is alive. Waits until one is."""
        give_up = time.monotonic() + RENDERER_RESTART_SECONDS
        while time.monotonic() < give_up:
            self._turn = (self._turn + 1) % len(self._hosts)
            host = self._hosts[self._turn]
            if self._turn in self._seen_alive or _is_ready(host):
                self._seen_alive.add(self._turn)
                return host
            time.sleep(LOOK_SECONDS)
        raise TimeoutError("no renderer came back")


def _is_ready(host: Any) -> bool:
    """Whether a host is alive and holds what it should."""
    import ray
    from ray.exceptions import RayActorError

    try:
        return ray.get(host.fault.remote()) is None
    except RayActorError:
        return False


def _connect_engine(hosts: Sequence[Any], _: EngineConfig) -> EngineConnection:
    return EngineConnection(hosts)


def _connect_renderer(hosts: Sequence[Any], config: EngineConfig) -> RendererConnection:
    return RendererConnection(hosts, config.max_model_len)


def _render_error(error: Exception) -> RowError:
    return RowError(Outcome.DECODE_ERROR, "render", one_line(error))


def _or_raise(answer: T | RowError) -> T:
    if isinstance(answer, RowError):
        raise answer
    return answer
