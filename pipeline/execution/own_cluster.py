"""Decides what a run's own local cluster does without.

That is what Ray starts for those who share a cluster, or watch it. Each is a process that takes up
to two seconds of CPU time to start, while the engine and the renderers start on the same cores, 40
to 220 MB, and some of a core later. Ray (2.60) has no setting for any of them, so what starts them
is replaced meanwhile; `test_own_cluster` sees that they are not there.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Self

from pipeline.execution.quiet import context_fields

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def without_watchers() -> Iterator[None]:
    """Ray starts without the dashboard's server, the autoscaler and the log monitor.

    `include_dashboard=False` does not leave the server out, for which Ray waits, and
    `log_to_driver=False` does not leave out the monitor, though it shows nobody what it reads.
    """
    from ray._private.node import Node

    names = ("start_api_server", "start_monitor", "start_log_monitor")
    with context_fields(Node, dict.fromkeys(names, _nothing)):
        yield


@contextlib.contextmanager
def without_coordinators() -> Iterator[None]:
    """Ray Data runs without the actors that all runs of a cluster share.

    One keeps figures for the dashboard. The other divides the cluster among the runs, and none gets
    anything before it has started; here all of it is the run's, and it does not grow.
    """
    from ray.data._internal import stats
    from ray.data._internal.execution import streaming_executor

    with (
        context_fields(stats, {"get_or_create_stats_actor": _Nobody}),
        context_fields(streaming_executor, {"create_cluster_autoscaler": _fixed_size}),
    ):
        yield


def _nothing(*_: Any, **__: Any) -> None:
    pass


class _Nobody:
    """In the place of an actor: what it is told is forgotten."""

    def __getattr__(self, name: str) -> Self:
        return self

    def remote(self, *_: Any, **__: Any) -> None:
        """Called as an actor's method."""


def _fixed_size(*_: Any, **__: Any) -> Any:
    """A `ClusterAutoscaler` that gives all of the cluster, and asks for no more."""
    import ray
    from ray.data._internal.cluster_autoscaler import ClusterAutoscaler
    from ray.data._internal.execution.interfaces import ExecutionResources

    class FixedSize(ClusterAutoscaler):
        total = ExecutionResources.from_resource_dict(ray.cluster_resources())

        def try_trigger_scaling(self) -> None:
            pass

        def on_executor_shutdown(self) -> None:
            pass

        def get_total_resources(self) -> ExecutionResources:
            return self.total

    return FixedSize()
