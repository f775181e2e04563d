"""A machine of the cluster goes away in the middle of a run: its rows are computed elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from pipeline.execution.cluster import WORKERS
from pipeline.storage.location import locate
from tests.chaos.test_chaos import UNIT_ROWS, check, settings, write_input


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rows", [2_000, pytest.param(6_000, marks=pytest.mark.long)])
def test_a_node_that_goes_away_takes_no_row_with_it(
    tmp_path: Path, gemma_folder: Path, rows: int
) -> None:
    due = write_input(tmp_path / "in", rows)
    config = settings(
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        gemma_folder,
        engine_replicas=2,
        render_workers=2,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in WORKERS.items():
            patch.setenv(name, value)
        memory = {"object_store_memory": 256 * 2**20}
        # By default it takes Ray half a minute to miss a node.
        soon = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}
        head = {"num_cpus": 2, "_system_config": soon, **memory}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        other = cluster.add_node(num_cpus=2, **memory)
        try:
            driver = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.attempt", json.dumps(config), "FAKE"],
                env={**os.environ, "RAY_ADDRESS": cluster.address},
                stderr=subprocess.PIPE,
                text=True,
            )
            output = locate(str(tmp_path / "out"))
            give_up = time.monotonic() + 200
            while not output.names("part-") and time.monotonic() < give_up:
                assert driver.poll() is None, driver.communicate()[1][-2000:]
                time.sleep(0.1)
            assert len(output.names("part-")) < rows // UNIT_ROWS
            cluster.remove_node(other, allow_graceful=False)
            _, errors = driver.communicate(timeout=300)
            assert driver.returncode == 0, errors[-2000:]
        finally:
            cluster.shutdown()
    check(locate(str(tmp_path / "out")), due)
