"""An engine that outlives a job: loaded once, used by one job after the other.

    with Engine(model="demo") as engine:
        captions = caption(images, engine=engine)
        more = caption(others, engine=engine)

Engines and renderers are Ray actors of their own, which hold the GPUs; a job's stages hand their
requests on to them and claim none. One job at a time uses an engine.
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

from jobs.options.check import unknown_option
from jobs.options.common import destination
from jobs.registry import JOBS
from jobs.sdk.assembly import configure
from pipeline import Generation, RowError, RunConfig, UserError
from pipeline.contract.errors import RunError, one_line
from pipeline.engine.checkpoint import fitted, open_checkpoint
from pipeline.engine.interface import Backend, EngineDiedError
from pipeline.engine.startup import attempt
from pipeline.engine.vllm_engine import VllmEngine
from pipeline.engine.vllm_renderer import VllmRenderer
from pipeline.engine.watchdog import Watchdog
from pipeline.execution.cluster import cluster
from pipeline.execution.dataflow import END_BY_ITSELF
from pipeline.execution.placement import place
from pipeline.stages.blocks import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Request
    from pipeline.engine.interface import Rendered

T = TypeVar("T")

MOST_REQUESTS = 10_000
"""Calls an actor takes at once; more than any engine works on."""
END_S = 60.0
ENGINE_OPTIONS = (
    *(name for name in JOBS["caption"].options.model_fields if destination(name) == "engine"),
    "engine_replicas",
)
"""All options about engines; `caption` has every one of them."""


class EngineHost:
    """The actor that holds an engine."""

    def __init__(self, config: EngineConfig) -> None:
        self._engine = attempt(VllmEngine, config, "the engine")

    async def generate(self, rendered: Rendered, key: str) -> Generation | RowError:
        """See `pipeline.engine.interface.Engine.generate`; a row's failure is returned, not raised."""
        try:
            return await self._made.generate(_unpacked(rendered), key)
        except RowError as error:
            return error

    async def model_class(self) -> str:
        """Of the model that was loaded."""
        return self._made.model_class

    async def fault(self) -> Fault | None:
        """Why there is no engine; answers once it is loaded."""
        return self._engine if isinstance(self._engine, Fault) else None

    async def close(self) -> None:
        """End the engine's processes."""
        self._made.close()

    @property
    def _made(self) -> VllmEngine:
        assert not isinstance(self._engine, Fault), "used though it did not start"
        return self._engine


class RendererHost:
    """The actor that holds a renderer: what it imports takes seconds."""

    def __init__(self, config: EngineConfig) -> None:
        self._renderer = attempt(VllmRenderer, config, "a renderer")
        self._watchdog = Watchdog(config.stall_seconds)

    def render(self, request: Request, images: Sequence[Image]) -> Rendered | RowError:
        """See `pipeline.engine.interface.Renderer.render`; a row's failure is returned, not raised."""
        try:
            with self._watchdog:
                return _packed(self._made.render(request, images))
        except RowError as error:
            return error

    def count(self, text: str) -> int:
        """See `pipeline.engine.interface.Renderer.count`."""
        return self._made.count(text)

    def fault(self) -> Fault | None:
        """Why there is no renderer; answers once it is loaded."""
        return self._renderer if isinstance(self._renderer, Fault) else None

    @property
    def _made(self) -> VllmRenderer:
        assert not isinstance(self._renderer, Fault), "used though it did not start"
        return self._renderer


def _packed(rendered: Rendered) -> Rendered:
    """With the prompt as bytes.

    The stages only hand it on, but to read it they would import vLLM, which takes seconds.
    """
    return replace(rendered, prompt=pickle.dumps(rendered.prompt, pickle.HIGHEST_PROTOCOL))


def _unpacked(rendered: Rendered) -> Rendered:
    return replace(rendered, prompt=pickle.loads(rendered.prompt))  # noqa: S301  our own


@dataclass
class EngineConnection:
    """An `Engine`, as the generate stage sees it: each request to the host that has fewest."""

    hosts: Sequence[Any]
    model_class: str = ""
    _load: Counter[int] = field(default_factory=Counter)

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        """See `pipeline.engine.interface.Engine.generate`."""
        from ray.exceptions import RayError

        number = min(range(len(self.hosts)), key=lambda host: self._load[host])
        self._load[number] += 1
        host = self.hosts[number]
        try:
            answer: Generation | RowError = await host.generate.remote(rendered, key)
            self.model_class = self.model_class or await host.model_class.remote()
        except RayError as error:
            raise EngineDiedError(f"the engine died: {one_line(error)}") from error
        finally:
            self._load[number] -= 1
        return _or_raise(answer)

    def close(self) -> None:
        """The hosts go on."""


@dataclass
class RendererConnection:
    """A `Renderer`, as the render stage sees it: the hosts take turns."""

    hosts: Sequence[Any]
    max_model_len: int

    def __post_init__(self) -> None:
        self._turns = itertools.cycle(self.hosts)

    def render(self, request: Request, images: Sequence[Image]) -> Rendered:
        """See `pipeline.engine.interface.Renderer.render`."""
        import ray

        answer: Rendered | RowError
        answer = ray.get(next(self._turns).render.remote(request, images))
        return _or_raise(answer)

    def count(self, text: str) -> int:
        """See `pipeline.engine.interface.Renderer.count`."""
        import ray

        return int(ray.get(next(self._turns).count.remote(text)))


def _or_raise(answer: T | RowError) -> T:
    if isinstance(answer, RowError):
        raise answer
    return answer


def _connect_engine(hosts: Sequence[Any], _: EngineConfig) -> EngineConnection:
    return EngineConnection(hosts)


def _connect_renderer(hosts: Sequence[Any], config: EngineConfig) -> RendererConnection:
    return RendererConnection(hosts, config.max_model_len)


class Engine:
    """One or more engines that stay loaded within a `with` block.

    Args:
        model: Folder of a Gemma 3 checkpoint, or `demo`.
        **settings: The options of the jobs that concern the engine: `dtype`, `max_model_len`,
            `max_num_seqs`, `tensor_parallel_size`, `engine_args`, `engine_replicas`, `max_images`,
            `pan_and_scan`; see `jobs.options.job_options`.

    Raises:
        UserError: An option is wrong, or the model is none.
    """

    def __init__(self, model: str, **settings: Any) -> None:
        for name in settings:
            if name not in ENGINE_OPTIONS:
                raise UserError(unknown_option(name, [*ENGINE_OPTIONS]))
        job = configure(JOBS["caption"], {"model": model, **settings})
        self._options, config = job.options, job.engine()
        self._config = fitted(config, open_checkpoint(config.model))
        self._engines: list[Any] = []
        self._renderers: list[Any] = []
        self._requests: int | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start a local Ray cluster where there is none, and load the engines."""
        if self._engines:
            raise UserError("engine: is started already; one `with` block at a time uses it")
        self._stack.enter_context(cluster(debug=False))
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the engines, and the cluster if it was started here."""
        import ray
        from ray.exceptions import RayError

        with contextlib.suppress(RayError):
            ray.get([host.close.remote() for host in self._engines], timeout=END_S)
        self._end()

    def _end(self) -> None:
        import ray

        for host in (*self._engines, *self._renderers):
            ray.kill(host)
        self._engines, self._renderers = [], []
        self._stack.close()

    def _start(self) -> None:
        import ray
        from ray.exceptions import RayError

        asked = RunConfig(
            input="-",
            output="-",
            engine=self._config,
            engine_replicas=self._options.engine_replicas,
        )
        placement = place(asked, ray.cluster_resources())
        self._requests = placement.requests * placement.engines
        # They claim no CPU, so that the stages of the jobs find theirs.
        engine = ray.remote(EngineHost).options(
            num_cpus=0,
            num_gpus=placement.engine_gpus,
            max_concurrency=MOST_REQUESTS,
            max_restarts=-1,
            runtime_env={"env_vars": END_BY_ITSELF},
        )
        renderer = ray.remote(RendererHost).options(num_cpus=0, max_restarts=-1)
        self._engines = [engine.remote(self._config) for _ in range(placement.engines)]
        self._renderers = [renderer.remote(self._config) for _ in range(placement.renderers)]
        hosts = (*self._engines, *self._renderers)
        try:
            faults: list[Fault | None] = ray.get([host.fault.remote() for host in hosts])
        except RayError as error:
            raise RunError(f"the engine did not start: {one_line(error)}") from error
        for fault in filter(None, faults):
            raise (UserError if fault.is_users else RunError)(fault.message)

    def check_started(self) -> None:
        """Raises UserError outside of the `with` block."""
        if not self._engines:
            raise UserError("engine: is not started; use it in a `with` block")

    @property
    def backend(self) -> Backend:
        """What a job runs on."""
        self.check_started()
        return Backend(
            renderer=partial(_connect_renderer, self._renderers),
            engine=partial(_connect_engine, self._engines),
            holds_gpus=False,
        )

    def options(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A job's settings with this engine's. Raises UserError where they name any of them."""
        for name in settings:
            if name in ENGINE_OPTIONS:
                raise UserError(f"{name}: is the engine's; set it where the engine is made")
        return {**settings, "model": self._options.model}

    def configured(self, config: RunConfig) -> RunConfig:
        """A job's configuration with this engine's; one stage hands all engines their requests."""
        engine = self._config.model_copy(update={"max_num_seqs": self._requests})
        return config.model_copy(update={"engine": engine, "engine_replicas": 1})
