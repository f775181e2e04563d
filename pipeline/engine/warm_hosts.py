"""Engines and renderers in Ray actors of their own, which outlive a run.

A run's stages reach them through a `Backend` of connections and claim no GPU themselves. Decides
what these actors claim, and that a failure of a row travels as a value and not as an exception,
which Ray would wrap. Prompts travel as bytes: the stages only pass them on, and unpickling one
imports vLLM, which takes seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pipeline.contract.errors import Fault, RowError, RunError, UserError, one_line
from pipeline.engine.interface import Backend, EngineDiedError
from pipeline.engine.orphans import ENGINE_ACTOR_ENV
from pipeline.engine.renderer import GemmaRenderer
from pipeline.engine.startup import attempt
from pipeline.engine.vllm_engine import VLLM, VllmEngine
from pipeline.engine.watchdog import Watchdog

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Generation, Request
    from pipeline.engine.interface import Rendered

T = TypeVar("T")

MAX_CONCURRENT_CALLS = 10_000
"""Calls an engine's actor takes at once; more than any engine works on."""
CLOSE_SECONDS = 60.0


@dataclass(frozen=True)
class WarmHosts:
    """Handles of the started actors.

    Attributes:
        engines: Of `EngineHost`.
        renderers: Of `RendererHost`.
    """

    engines: Sequence[Any]
    renderers: Sequence[Any]

    @classmethod
    def start(
        cls, config: EngineConfig, *, engines: int, renderers: int, gpus_per_engine: int
    ) -> Self:
        """Start the actors; returns once all models and tokenizers are loaded.

        Args:
            config: The engine.
            engines: Number of engines.
            renderers: Number of renderers.
            gpus_per_engine: GPUs each engine's actor claims; 0 on a CPU.

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
            [engine.remote(config) for _ in range(engines)],
            [renderer.remote(config) for _ in range(renderers)],
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
            name=VLLM.name,
            renderer=partial(_connect_renderer, self.renderers),
            engine=partial(_connect_engine, self.engines),
            holds_gpus=False,
            needs=VLLM.needs,
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
    """The actor that holds an engine."""

    def __init__(self, config: EngineConfig) -> None:
        self._engine = attempt(VllmEngine, config, "the engine")

    async def generate(self, rendered: Rendered, key: str) -> Generation | RowError:
        """As `InferenceEngine.generate`, but returns a row's failure instead of raising it."""
        prompt = pickle.loads(rendered.prompt)  # noqa: S301  pickled by `RendererHost`
        try:
            return await self._made.generate(replace(rendered, prompt=prompt), key)
        except RowError as error:
            return error

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
    def _made(self) -> VllmEngine:
        assert not isinstance(self._engine, Fault), "used though it did not start"
        return self._engine


class RendererHost:
    """The actor that holds a renderer, because importing what it needs takes seconds."""

    def __init__(self, config: EngineConfig) -> None:
        self._renderer = attempt(GemmaRenderer, config, "a renderer")
        self._watchdog = Watchdog(config.stall_seconds)

    def render(self, request: Request, images: Sequence[Image]) -> Rendered | RowError:
        """As `Renderer.render`, but returns a row's failure, and pickles the prompt."""
        try:
            with self._watchdog:
                rendered = self._made.render(request, images)
                prompt = pickle.dumps(rendered.prompt, pickle.HIGHEST_PROTOCOL)
                return replace(rendered, prompt=prompt)
        except RowError as error:
            return error

    def count(self, text: str) -> int:
        """See `Renderer.count`."""
        return self._made.count(text)

    def fault(self) -> Fault | None:
        """Why the renderer did not start, or None; answers once it is loaded."""
        return self._renderer if isinstance(self._renderer, Fault) else None

    @property
    def _made(self) -> GemmaRenderer:
        assert not isinstance(self._renderer, Fault), "used though it did not start"
        return self._renderer


@dataclass
class EngineConnection:
    """An `InferenceEngine` that sends each request to the host with the fewest in flight.

    Attributes:
        hosts: Handles of `EngineHost` actors.
        model_class: See `InferenceEngine.model_class`; empty before the first request.
    """

    hosts: Sequence[Any]
    model_class: str = ""
    _in_flight: Counter[int] = field(default_factory=Counter)

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        """See `InferenceEngine.generate`.

        Raises:
            RowError: This request failed.
            EngineDiedError: The host died; Ray starts it again.
        """
        from ray.exceptions import RayError

        number = min(range(len(self.hosts)), key=lambda host: self._in_flight[host])
        self._in_flight[number] += 1
        host = self.hosts[number]
        try:
            answer: Generation | RowError = await host.generate.remote(rendered, key)
            self.model_class = self.model_class or await host.model_class.remote()
        except RayError as error:
            raise EngineDiedError(f"the engine died: {one_line(error)}") from error
        finally:
            self._in_flight[number] -= 1
        return _or_raise(answer)

    def close(self) -> None:
        """Leaves the hosts running."""


@dataclass
class RendererConnection:
    """A `Renderer` that sends requests to its hosts in turn.

    Attributes:
        hosts: Handles of `RendererHost` actors.
        max_model_len: See `Renderer.max_model_len`.
    """

    hosts: Sequence[Any]
    max_model_len: int

    def __post_init__(self) -> None:
        self._turns = itertools.cycle(self.hosts)

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        """See `Renderer.render`.

        Raises:
            RowError: This request cannot be rendered.
        """
        import ray

        answer: Rendered | RowError
        answer = ray.get(next(self._turns).render.remote(request, images))
        return _or_raise(answer)

    def count(self, text: str) -> int:
        """See `Renderer.count`."""
        import ray

        return int(ray.get(next(self._turns).count.remote(text)))


def _connect_engine(hosts: Sequence[Any], _: EngineConfig) -> EngineConnection:
    return EngineConnection(hosts)


def _connect_renderer(hosts: Sequence[Any], config: EngineConfig) -> RendererConnection:
    return RendererConnection(hosts, config.max_model_len)


def _or_raise(answer: T | RowError) -> T:
    if isinstance(answer, RowError):
        raise answer
    return answer
