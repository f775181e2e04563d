"""An engine that stays loaded and runs one job after the other.

    with Engine(model="demo") as engine:
        captions = caption(images, engine=engine)
        more = caption(others, engine=engine)

Only one job at a time can use an engine. Its actors are in `pipeline.engine.warm_hosts`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Self

from jobs.options.check import unknown
from jobs.options.common import destination
from jobs.registry import JOBS
from jobs.sdk.assembly import configure
from pipeline import RunConfig, UserError
from pipeline.engine.backends import backend_of, open_model, resolve_model
from pipeline.engine.model_files import BUNDLED
from pipeline.engine.supported_versions import check_versions
from pipeline.engine.warm_hosts import WarmHosts
from pipeline.execution.cluster import cluster
from pipeline.execution.placement import machine_gpus, place

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from pipeline.engine.interface import Backend

ENGINE_OPTIONS = (
    *(name for name in JOBS["caption"].options.model_fields if destination(name) == "engine"),
    "engine_replicas",
)
"""The options of engines; `caption` has all of them."""


class Engine:
    """One or more engines that stay loaded within a `with` block.

    Args:
        model: A Gemma 3: a folder, on the hub (`OWNER/NAME`), a URI, a GGUF file, or `demo`; with
            an endpoint its name there.
        **settings: The jobs' options of the engine: `endpoint`, `dtype`, `prompt_format`,
            `max_model_len`, `max_num_seqs`, `tensor_parallel_size`, `lora`, `lora_column`,
            `engine_args`, `engine_replicas`, `max_images`, `pan_and_scan`; see
            `jobs/options/README.md`.

    Raises:
        UserError: An option is wrong, `model` is not a complete Gemma 3 or cannot be fetched, the
            endpoint does not answer or has no such model, or Ray or vLLM has an unsupported
            version.
    """

    def __init__(self, model: str, **settings: Any) -> None:
        for name in settings:
            if name not in ENGINE_OPTIONS:
                raise UserError(f"{name}: {unknown(name, ENGINE_OPTIONS, 'option')}")
        job = configure(JOBS["caption"], {"model": model, **settings})
        self._options, config = job.options, job.engine()
        self._holds = backend_of(config)
        check_versions("Ray", *self._holds.needs)
        keeps_name = self._options.model in BUNDLED or config.endpoint is not None
        self._model = self._options.model if keeps_name else job.model.path
        found = open_model(config.model, config.prompt_format, endpoint=config.endpoint)
        self._config = resolve_model(config, found).model_copy(
            update={"has_images": found.profile.has_vision}
        )
        self._holds.check(self._config.model_copy(update={"has_images": False}))
        self._hosts: WarmHosts | None = None
        self._requests: int | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Load the engines, on a local Ray cluster if there is no other.

        Raises:
            UserError: The engine is started already.
        """
        if self._hosts is not None:
            raise UserError("engine: is started already; use it in one `with` block at a time")
        self._stack.enter_context(cluster(debug=False, for_one_run=False))
        try:
            self._hosts = self._start()
        except BaseException:
            self._stack.close()
            raise
        self._stack.callback(self._hosts.close)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the engines, and the cluster if it was started here."""
        self._hosts = None
        self._stack.close()

    def _start(self) -> WarmHosts:
        import ray

        replicas = self._options.engine_replicas
        config = RunConfig(input="-", output="-", engine=self._config, engine_replicas=replicas)
        placement = place(config, ray.cluster_resources(), machine_gpus(), self._holds)
        self._requests = placement.requests * placement.engines
        return WarmHosts.start(
            self._config,
            engines=placement.engines,
            renderers=placement.renderers,
            gpus_per_engine=placement.engine_gpus,
            holds=self._holds,
        )

    def check_started(self) -> None:
        """Check that the engine is started.

        Raises:
            UserError: This is called outside of the `with` block.
        """
        if self._hosts is None:
            raise UserError("engine: is not started; use it in a `with` block")

    @property
    def backend(self) -> Backend:
        """The backend that a run uses in place of engines of its own.

        Raises:
            UserError: This is called outside of the `with` block.
        """
        self.check_started()
        assert self._hosts is not None
        return self._hosts.backend()

    def options(self, settings: Mapping[str, Any], known: Container[str] = ()) -> dict[str, Any]:
        """A job's options, with those of this engine that decide what is asked.

        Args:
            settings: What the caller set.
            known: The names of the job's options.

        Raises:
            UserError: The options include the model or another option of the engine.
        """
        for name in settings:
            if name in ENGINE_OPTIONS:
                raise UserError(f"{name}: is the engine's; set it where the engine is made")
        own: dict[str, Any] = {
            "model": self._model,
            "prompt_format": self._config.prompt_format,
            "endpoint": self._options.endpoint,
            "lora_column": self._config.lora_column,
        }
        if "max_images" in known:
            own["max_images"] = self._config.max_images
        return {**settings, **own}

    def configured(self, config: RunConfig) -> RunConfig:
        """A run's configuration, with this engine's in it.

        One generate actor forwards the requests to all engines, so it may hold as many requests
        as all of them together.
        """
        engine = self._config.model_copy(update={"max_num_seqs": self._requests})
        return config.model_copy(update={"engine": engine, "engine_replicas": 1})
