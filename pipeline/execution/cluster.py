"""Which Ray cluster a run uses: an existing one, or a local one that ends with the run.

Here and in the rest of the package Ray is imported inside functions only: importing Ray takes
seconds, and much of the package works without it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from functools import partial
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterator

GIB = 2**30
ENGINE_END_S = 30.0
"""Time that engines have to shut down; on a busy machine with two cores they take 6 s."""
WORKERS = {
    "RAY_num_workers_soft_limit": "8",
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
}
"""By default Ray (2.60) ends an idle worker process after a second if there are more of them than
CPUs. Starting one takes seconds of CPU time, and on a small machine tasks start all the time."""
CLUSTER_END_S = 5.0
"""Time that the cluster's own processes have to shut down before they are killed."""


@contextlib.contextmanager
def cluster(*, debug: bool) -> Iterator[None]:
    """Connect to a cluster for the duration of a run.

    If this process is connected to one already, that is used and stays connected. Otherwise
    `RAY_ADDRESS` names one; if it is not set, a local cluster is started, and stopped at the end.

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
        end = partial(_end_local, _start_local(debug, level))
    try:
        yield
    finally:
        end()


def _start_local(debug: bool, level: int) -> list[psutil.Process]:
    """Start a local cluster. Returns its processes that are children of this one."""
    before = psutil.Process().children()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for name, value in WORKERS.items():
        os.environ.setdefault(name, value)
    import ray

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=debug,
        logging_level=level,
        # A run keeps some blocks in flight, never a whole dataset.
        object_store_memory=min(max(memory // 32, GIB // 2), 8 * GIB),
    )
    return [process for process in psutil.Process().children() if process not in before]


def _end_local(parts: list[psutil.Process]) -> None:
    """Stop the local cluster with all its processes; other children of this process stay.

    Ray (2.60) kills the actors that still run when the cluster stops, and an engine that is killed
    leaves its processes and its shared memory behind. So wait first for the processes that the
    workers, which are children of `parts`, have started: the engines'.

    Args:
        parts: The cluster's own processes.
    """
    import ray

    workers = [worker for part in parts for worker in _children(part)]
    engines = [process for worker in workers for process in _children(worker, recursive=True)]
    psutil.wait_procs(engines, timeout=ENGINE_END_S)
    processes = [process for part in parts for process in _children(part, recursive=True)]
    ray.shutdown()
    _, left = psutil.wait_procs([*parts, *processes], timeout=CLUSTER_END_S)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _children(process: psutil.Process, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=recursive))
    except psutil.NoSuchProcess:
        return []


def _quieten() -> None:
    """Switch off Ray's messages, which would hide the run's own progress display and errors."""
    from ray.data import DataContext

    # Ray's core (2.60) warns on stderr about every actor that may be restarted.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    # Ray 2.60 deprecates the only way to set an actor's restarts, and warns about its own settings.
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
    warnings.filterwarnings("ignore", module=r"ray\.data\.")
