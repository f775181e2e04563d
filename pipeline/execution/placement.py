"""How a run's actors share the cluster: how many engines and renderers, and what each one claims.

Ray places actors by logical CPUs and GPUs, and waits silently for ones that never become free (two
actors of one CPU each hang on a machine with two, Ray 2.60). So shares are computed here that fit.
Only actors claim CPUs; the number of tasks is limited instead. A task that reads waits for the
stages after it: if tasks claimed CPUs and two runs shared a cluster, the tasks and actors of both
could hold all CPUs and wait for each other.
"""

from __future__ import annotations

import glob
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.contract.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.contract.config import RunConfig
    from pipeline.engine.interface import Backend

RENDERERS_PER_ENGINE = 16
"""Most renderers for each engine, unless `render_workers` asks for more."""
READERS_PER_ENGINE = 2
"""Reading tasks at once; a single one reads far faster than an engine generates."""
ENGINES_PER_PARSER = 4
"""Engines for each parse actor, which claims no CPU: it mostly waits for the store. No tasks: a Ray
(2.60) that has more workers than CPUs ends each one that is idle for a second, and starting one
takes seconds."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What to ask Ray for.

    Attributes:
        engines: Engine actors.
        engine_gpus: GPUs of each; 0 on a CPU.
        requests: Requests that each engine works on at once.
        renderers: Render actors.
        readers: Reading tasks at once.
        parsers: Parse actors.
        cpu_share: Logical CPUs of each actor.
    """

    engines: int
    engine_gpus: int
    requests: int
    renderers: int
    readers: int
    parsers: int
    cpu_share: float


def machine_gpus() -> tuple[int, ...]:
    """GPUs of each machine of the cluster that this process is connected to."""
    import ray

    return tuple(int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"])


def place(
    config: RunConfig,
    resources: Mapping[str, float],
    machines: Sequence[int] | None = None,
    backend: Backend | None = None,
) -> Placement:
    """Fit a run to a cluster.

    Args:
        config: The run.
        resources: Ray's totals by name, of which `CPU` and `GPU` are used.
        machines: GPUs of each machine: an engine's are on one. None if all are on one.
        backend: What makes the engines; None for engines that hold GPUs themselves.

    Raises:
        UserError: The cluster has too few GPUs for one engine or for the replicas asked for.
    """
    holds_gpus = backend is None or backend.holds_gpus
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0)) if holds_gpus else 0
    per_engine = config.engine.tensor_parallel_size if gpus else 0
    engines = config.engine_replicas or 1
    if holds_gpus:
        engines = _engines(config, [gpus] if machines is None or not gpus else machines, per_engine)
    answering = engines * (1 if backend is None else backend.answering)
    spare = int(cpus) - engines - 1
    renderers = config.render_workers or min(max(spare, 1), RENDERERS_PER_ENGINE * answering)
    readers = READERS_PER_ENGINE * answering
    share = min(1.0, math.floor(100 * cpus / (engines + renderers + readers)) / 100)
    return Placement(
        engines=engines,
        engine_gpus=per_engine,
        requests=config.engine.requests(on_gpu=bool(gpus)),
        renderers=renderers,
        readers=readers,
        parsers=-(-answering // ENGINES_PER_PARSER),
        cpu_share=share,
    )


def check_this_machine(config: RunConfig) -> None:
    """Check, before Ray starts on this machine alone, that it can have an engine's GPUs.

    Raises:
        UserError: It has none, and an engine needs several.
    """
    if not glob.glob("/dev/nvidia[0-9]*") and not os.path.exists("/dev/kfd"):
        _engines(config, [0], 0)


def _engines(config: RunConfig, machines: Sequence[int], per_engine: int) -> int:
    gpus = sum(machines)
    if not gpus:
        if config.engine.tensor_parallel_size > 1:
            raise UserError("tensor_parallel_size: there is no GPU; leave it at 1")
        return config.engine_replicas or 1
    if max(machines) < per_engine <= gpus:
        raise UserError(
            f"tensor_parallel_size: an engine's {per_engine} GPUs are on one machine, and the "
            f"largest here has {max(machines)}; lower it"
        )
    fitting = sum(on_one // per_engine for on_one in machines)
    if fitting < (config.engine_replicas or 1):
        wanted = config.engine_replicas or 1
        raise UserError(
            f"{wanted} engine(s) of {per_engine} GPU(s) asked for, the cluster has {gpus}; lower "
            "engine_replicas or tensor_parallel_size"
        )
    return config.engine_replicas or fitting
