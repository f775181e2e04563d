"""A local cluster ends with all its processes, and with no others."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import subprocess, psutil
from pipeline.execution.cluster import cluster

own = subprocess.Popen(["sleep", "600"])
with cluster(debug=False):
    import ray
    ray.get(ray.remote(num_cpus=0)(lambda: 1).remote())
    started = [p for p in psutil.Process().children(recursive=True) if p.pid != own.pid]
print(len(started) > 2, any(p.is_running() for p in started), own.poll())
own.kill()
"""


def test_a_local_cluster_ends_and_other_processes_stay() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=180
    )
    assert done.stdout.split() == ["True", "False", "None"]
