"""Decides how many engines a run would have, and what bounds it when it has more of them.

An engine's rate is measured with one on a GPU, since GPUs do not share; on CPUs with as many as the
run would have, since those do. More engines than the cluster holds are taken to bring machines like
its own.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.forecast.course import WAVES
from pipeline.execution.cluster import cluster, starts_own_cluster
from pipeline.execution.depth import depth, images_of
from pipeline.execution.placement import machine_gpus, place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline import RunConfig, Task
    from pipeline.engine.interface import Backend
    from pipeline.execution.placement import Placement
    from pipeline.profiling.profile import Profile

PILOT_ROWS = 400
"""Rows of a pilot, unless an engine works on so many at once that these would not fill it."""
DRIVER_BLOCKS = 35
"""Blocks a second that one driver does; see "What bends first" in `pipeline/README.md`."""
GPUS = "/proc/driver/nvidia/gpus"
"""A folder with an entry for each GPU; Ray looks there too."""
RENDERING = "preparing rows for the model: reading, decoding, tokenising"
DRIVING = f"the driver, which does some {DRIVER_BLOCKS} blocks a second"


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a run and its pilot run on.

    Attributes:
        resources: Ray's totals by name.
        placement: How the run would be placed.
        shares_cpus: Whether its engines run on this machine's CPUs, where others may run too.
    """

    resources: Mapping[str, float]
    placement: Placement
    shares_cpus: bool = False

    @property
    def gpus(self) -> int:
        """GPUs of each engine; 0 where there are none."""
        return self.placement.engine_gpus

    @property
    def engines(self) -> int:
        """Engines of the pilot."""
        return 1 if self.gpus else self.placement.engines

    @property
    def pilot_rows(self) -> int:
        """Rows of a pilot by default: with fewer an engine would never be full."""
        return max(PILOT_ROWS, WAVES * self.placement.requests * self.engines)


def capacity_of(config: RunConfig, backend: Backend) -> Capacity:
    """What a run would run on; a cluster that `RAY_ADDRESS` names is asked.

    Raises:
        UserError: It has too few GPUs, or does not answer.
    """
    resources, machines = _resources()
    if not backend.holds_gpus:
        resources.pop("GPU", None)
    placement = place(config, resources, machines, backend)
    shares = backend.holds_gpus and not placement.engine_gpus and starts_own_cluster()
    return Capacity(resources=resources, placement=placement, shares_cpus=shares)


def _resources() -> tuple[dict[str, float], Sequence[int]]:
    """Ray's totals, and the GPUs of each machine."""
    if starts_own_cluster():
        gpus = _own_gpus()
        return {"CPU": float(os.cpu_count() or 1), "GPU": float(gpus)}, [gpus]
    import ray

    with cluster(debug=False):
        return dict(ray.cluster_resources()), machine_gpus()


def _own_gpus() -> int:
    """GPUs that a cluster on this machine would have: those that `CUDA_VISIBLE_DEVICES` leaves."""
    gpus = len(os.listdir(GPUS)) if os.path.isdir(GPUS) else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return gpus
    return min(gpus, len([name for name in visible.split(",") if name.strip()]))


def limit_of(
    config: RunConfig,
    task: Task,
    profile: Profile,
    capacity: Capacity,
    *,
    replicas: int,
    rows: int,
) -> tuple[float, str]:
    """Rows a second that a run can do whatever its engines can, and what bounds it then.

    Args:
        config: The run.
        task: Its task.
        profile: The pilot's.
        capacity: What both run on.
        replicas: Engines of the run.
        rows: Its rows.
    """
    here = capacity.placement.engines
    if replicas <= capacity.engines:
        return math.inf, ""
    factor = max(1.0, replicas / here)
    wanted = config.model_copy(update={"engine_replicas": replicas})
    more = {name: amount * factor for name, amount in capacity.resources.items()}
    placement = place(wanted, more)
    blocks = depth(placement, rows=rows, block_rows=config.block_rows, images=images_of(task))
    render = profile.stages["render"]
    limits = {DRIVING: float(DRIVER_BLOCKS * blocks.block_rows)}
    if render.busy:
        limits[RENDERING] = placement.renderers * render.rows / render.busy
    name = min(limits, key=lambda name: limits[name])
    return limits[name], name
