"""An engine that outlives a job: loaded once, used by one job after the other.

    with Engine(model="demo") as engine:
        captions = caption(pictures, engine=engine)
        more = caption(others, engine=engine)

The engines are Ray actors of their own, which hold the GPUs; a job's generate stage hands its
requests on to them and claims none. One job at a time uses an engine.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from jobs.assembly import ENGINE_OPTIONS, engine_config
from jobs.checking import check_options, unknown_option
from jobs.options import CaptionOptions
from pipeline import Generation, RowError, RunConfig, UserError
from pipeline.checkpoint import fitted, open_checkpoint
from pipeline.cluster import cluster
from pipeline.engine import Backend, EngineDiedError, VllmEngine, VllmRenderer
from pipeline.errors import RunError, one_line
from pipeline.flow import END_BY_ITSELF
from pipeline.placement import place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from pipeline.config import EngineConfig
    from pipeline.engine import Rendered

MOST_REQUESTS = 10_000
"""Calls an actor takes at once; more than any engine works on."""
END_S = 60.0


class Host:
    """The actor that holds an engine."""

    def __init__(self, config: EngineConfig) -> None:
        self._engine = VllmEngine(config)

    async def generate(self, rendered: Rendered, key: str) -> Generation | RowError:
        """See `pipeline.engine.Engine.generate`; a row's failure is returned, not raised."""
        try:
            return await self._engine.generate(rendered, key)
        except RowError as error:
            return error

    async def model_class(self) -> str:
        """Of the model that was loaded."""
        return self._engine.model_class

    async def ready(self) -> bool:
        """Answers once the engine is loaded."""
        return True

    async def close(self) -> None:
        """End the engine's processes."""
        self._engine.close()


@dataclass(frozen=True)
class Connect:
    """Makes a job's connection to the hosts, in the actor of its generate stage."""

    hosts: tuple[Any, ...]

    def __call__(self, config: EngineConfig) -> Connection:
        """The configuration is the hosts' already."""
        return Connection(self.hosts)


@dataclass
class Connection:
    """An `Engine`, as the generate stage sees it: each request to the host that has fewest."""

    hosts: tuple[Any, ...]
    model_class: str = ""
    _load: dict[int, int] = field(default_factory=dict)

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        """See `pipeline.engine.Engine.generate`."""
        from ray.exceptions import RayError

        number = min(range(len(self.hosts)), key=lambda host: self._load.get(host, 0))
        self._load[number] = self._load.get(number, 0) + 1
        host = self.hosts[number]
        try:
            answer = await host.generate.remote(rendered, key)
            self.model_class = self.model_class or await host.model_class.remote()
        except RayError as error:
            raise EngineDiedError(f"the engine died: {one_line(error)}") from error
        finally:
            self._load[number] -= 1
        if isinstance(answer, RowError):
            raise answer
        generation: Generation = answer
        return generation

    def close(self) -> None:
        """The hosts go on."""


class Engine:
    """One or more engines that stay loaded within a `with` block.

    Args:
        model: Folder of a Gemma 3 checkpoint, or `demo`.
        **settings: The options of the jobs that concern the engine: `dtype`, `max_model_len`,
            `max_num_seqs`, `tensor_parallel_size`, `engine_args`, `engine_replicas`, `max_images`,
            `pan_and_scan`; see `jobs.options`.

    Raises:
        UserError: An option is wrong, or the model is none.
    """

    def __init__(self, model: str, **settings: Any) -> None:
        for name in settings:
            if name not in ENGINE_OPTIONS:
                raise UserError(unknown_option(name, [*ENGINE_OPTIONS]))
        self._options = check_options(CaptionOptions, {"model": model, **settings})
        config = engine_config(self._options)
        self._config = fitted(config, open_checkpoint(config.model))
        self._hosts: tuple[Any, ...] = ()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start a local Ray cluster where there is none, and load the engines."""
        self._stack.enter_context(cluster(debug=False))
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the engines, and the cluster if it was started here."""
        import ray
        from ray.exceptions import RayError

        with contextlib.suppress(RayError):
            ray.get([host.close.remote() for host in self._hosts], timeout=END_S)
        for host in self._hosts:
            ray.kill(host)
        self._hosts = ()
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
        actor = ray.remote(Host).options(
            num_cpus=0,
            num_gpus=placement.engine_gpus,
            max_concurrency=MOST_REQUESTS,
            max_restarts=-1,
            runtime_env={"env_vars": END_BY_ITSELF},
        )
        self._hosts = tuple(actor.remote(self._config) for _ in range(placement.engines))
        try:
            ray.get([host.ready.remote() for host in self._hosts])
        except RayError as error:
            raise RunError(f"the engine did not start: {one_line(error)}") from error

    @property
    def backend(self) -> Backend:
        """What a job runs on."""
        if not self._hosts:
            raise UserError("engine: is not started; use it in a `with` block")
        return Backend(renderer=VllmRenderer, engine=Connect(self._hosts), holds_gpus=False)

    def options(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A job's settings with this engine's. Raises UserError where they name any of them."""
        for name in settings:
            if name == "model" or name in ENGINE_OPTIONS:
                raise UserError(f"{name}: is the engine's; set it where the engine is made")
        return {**settings, "model": self._options.model}

    def configured(self, config: RunConfig) -> RunConfig:
        """A job's configuration with this engine's."""
        return config.model_copy(update={"engine": self._config, "engine_replicas": 1})
