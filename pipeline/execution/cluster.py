"""Which Ray cluster a run uses: the one that is there, or one of its own that ends with the run.

Ray is imported only here, in `flow` and in the stages, inside functions.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterator

GIB = 2**30
ENGINE_END_S = 30.0
"""How long engines are given to end by themselves; on a busy machine of two cores they take 6."""
WORKERS = {
    "RAY_num_workers_soft_limit": "8",
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
}
"""Ray ends an idle worker process after a second, once there are more than CPUs (2.60). Starting
one takes seconds of a CPU, and on a small machine tasks come and go all the time."""
CLUSTER_END_S = 5.0
"""The same for the cluster's own processes, before they are killed."""


@contextlib.contextmanager
def cluster(*, debug: bool) -> Iterator[None]:
    """Connect to a cluster for the length of a run.

    One that this process is connected to already is used and left as it is; `RAY_ADDRESS` names
    another; otherwise a local one is started and stopped.

    Args:
        debug: Show the workers' output and Ray's own messages.
    """
    import ray

    if not debug:
        _quieten()
    if ray.is_initialized():
        yield
        return
    level = logging.INFO if debug else logging.ERROR
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=debug, logging_level=level)
        end = ray.shutdown
    else:
        _start_local(debug, level)
        end = _end_local
    try:
        yield
    finally:
        end()


def _start_local(debug: bool, level: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for name, value in WORKERS.items():
        os.environ.setdefault(name, value)
    import ray

    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=debug,
        logging_level=level,
        object_store_memory=_object_store_bytes(),
    )


def _end_local() -> None:
    """Stop the local cluster with all its processes.

    Ray Data lets a run's actors end by themselves, and Ray kills them when the cluster stops: an
    engine that is killed leaves its processes and its shared memory behind. So first what the
    workers started (the engines' processes) is given the time to end.
    """
    import ray

    psutil.wait_procs(_started_by_workers(), timeout=ENGINE_END_S)
    processes = psutil.Process().children(recursive=True)
    ray.shutdown()
    _, left = psutil.wait_procs(processes, timeout=CLUSTER_END_S)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _started_by_workers() -> list[Any]:
    """Processes below this process's Ray workers, which are its grandchildren."""
    ray_parts = psutil.Process().children()
    workers = [worker for part in ray_parts for worker in part.children()]
    return [process for worker in workers for process in worker.children(recursive=True)]


def _quieten() -> None:
    """A run has its own progress display and tells its own errors; Ray's would hide them."""
    from ray.data import DataContext

    # Ray's core warns on stderr of every actor that may be restarted (2.60).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # Ray 2.60 deprecates the only way to say how often an actor is started anew, and warns of its
    # own settings.
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
    warnings.filterwarnings("ignore", module=r"ray\.data\.")


def _object_store_bytes() -> int:
    """A 32nd of the memory, 0.5 to 8 GiB: a run keeps some blocks in flight, no dataset."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(max(memory // 32, GIB // 2), 8 * GIB)
