"""A cluster of one run's own has none of the processes that serve several, and gives all it has."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.execution import cluster as module
from tests.pipeline.execution import fresh_process

CODE = """
import json, sys
import psutil, ray
from ray.data._internal import stats
from ray.data._internal.execution import streaming_executor
from pipeline.execution.cluster import cluster
from pipeline.execution.quiet import quiet

ours = lambda: (stats.get_or_create_stats_actor, streaming_executor.create_cluster_autoscaler)
before = ours()
with cluster(debug=False), quiet(debug=False):
    import ray.data
    rows = ray.data.range(40, override_num_blocks=4).map(lambda row: {"id": row["id"] + 1})
    answers = sorted(row["id"] for row in rows.iter_rows())
    names = [" ".join(p.cmdline()) for p in psutil.Process().children(recursive=True)]
print(json.dumps({"answers": answers, "names": names, "restored": ours() == before}))
"""
NAMES = (
    "dashboard/dashboard.py",
    "autoscaler/_private/monitor.py",
    "log_monitor.py",
    "_StatsActor",
    "_AutoscalingCoordinator",
)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return fresh_process.run(CODE)[0]


@pytest.mark.parametrize("name", NAMES)
def test_what_others_would_share_is_not_there(found: dict[str, Any], name: str) -> None:
    assert [one for one in found["names"] if name in one] == []
    assert [one for one in found["names"] if "raylet" in one], "the names are no command lines"


def test_a_dataset_is_computed_and_ray_is_as_before(found: dict[str, Any]) -> None:
    assert found["answers"] == [*range(1, 41)]
    assert found["restored"] is True


@pytest.mark.parametrize("runs", ["one", "several"])
def test_several_runs_divide_a_cluster_as_ray_does(
    runs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a warm `Engine`, which may be at work at the same time."""
    from ray.data._internal.execution import streaming_executor

    rays = streaming_executor.create_cluster_autoscaler
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(module, "starts_own_cluster", lambda: True)
    monkeypatch.setattr(module, "_start_local", lambda _: [])
    monkeypatch.setattr(module, "_end", lambda *_, **__: None)
    with module.cluster(debug=False, for_one_run=runs == "one"):
        assert (streaming_executor.create_cluster_autoscaler is rays) == (runs == "several")
    assert streaming_executor.create_cluster_autoscaler is rays
