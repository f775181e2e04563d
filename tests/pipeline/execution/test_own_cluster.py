"""A cluster of one run's own has none of the processes that serve several, and gives all it has."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

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
def found() -> dict[str, list[str]]:
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
        env=environment,
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_what_others_would_share_is_not_there(found: dict[str, list[str]], name: str) -> None:
    assert [one for one in found["names"] if name in one] == []
    assert [one for one in found["names"] if "raylet" in one], "the names are no command lines"


def test_a_dataset_is_computed_and_ray_is_as_before(found: dict[str, list[str]]) -> None:
    assert found["answers"] == [*range(1, 41)]
    assert found["restored"] is True
