"""Engines and renderers in Ray actors of their own, which outlive a run.

A run's stages reach them through a `Backend` of `warm_connections` and claim no GPU themselves.
Decides what these actors claim; that a failure of a row travels as a value and not as an exception,
which Ray would wrap; and that the actor of an engine that dies ends too, so that Ray starts it
anew.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from pipeline.contract.errors import Fault, RowError, RunError, UserError, one_line
from pipeline.contract.record import Outcome
from pipeline.engine.interface import Backend, EngineDiedError
from pipeline.engine.orphans import ENGINE_ACTOR_ENV, end_process
from pipeline.engine.startup import attempt
from pipeline.engine.vllm_engine import VLLM
from pipeline.engine.warm_connections import connect_engine, connect_renderer
from pipeline.engine.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Generation, Request
    from pipeline.engine.interface import InferenceEngine, Rendered, Renderer

MAX_CONCURRENT_CALLS = 10_000
"""Calls an engine's actor takes at once; more than any engine works on."""
CLOSE_SECONDS = 60.0


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
            renderer=partial(connect_renderer, self.renderers),
            engine=partial(connect_engine, self.engines),
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


def _render_error(error: Exception) -> RowError:
    return RowError(Outcome.DECODE_ERROR, "render", one_line(error))
