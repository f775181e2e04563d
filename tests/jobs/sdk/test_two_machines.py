"""A cluster of two machines, of which the driver's has no CPUs: all rows are done on the other one.

The other one does not see the driver's temporary folder, where mounts can be made; elsewhere it is
only shown that nothing is written there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from pipeline.execution.cluster import WORKERS
from tests.jobs.sdk.two_machines import OTHER
from tests.mounts import can_mount

MEMORY = 128 * 2**20

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the other machine does not see."""
    return tmp_path_factory.mktemp("hidden")


@pytest.fixture(scope="module")
def address(hidden: Path, unforked_workers: None) -> Iterator[str]:  # noqa: ARG001
    """The address of the cluster."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in WORKERS.items():
            patch.setenv(name, value)
        head = {"num_cpus": 0, "object_store_memory": MEMORY}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        join = f"start --address={cluster.address} --num-cpus=2 --object-store-memory={MEMORY}"
        command = [str(Path(sys.executable).with_name("ray")), *join.split(), "--block"]
        if can_mount():
            mount = f'mount -t tmpfs none {hidden}; exec "$@"'
            command = ["unshare", "-m", "sh", "-ec", mount, "sh", *command]
        other = subprocess.Popen(
            command,
            env={**os.environ, "MACHINE": OTHER},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield cluster.address
        finally:
            other.terminate()
            other.wait(30)
            cluster.shutdown()


def do(what: str, folder: Path, address: str, temporary: Path) -> list[str]:
    """What `two_machines` printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.jobs.sdk.two_machines", what, str(folder)],
        env={**os.environ, "RAY_ADDRESS": address, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_a_disk_that_a_machine_does_not_see_is_refused(
    tmp_path: Path, gemma_folder: Path, address: str
) -> None:
    (tmp_path / "in").mkdir()
    for file in ("in/a.png", "photo.png"):
        (tmp_path / file).write_bytes(b"image")
    share = "use s3:// or gs://, or a folder that all machines share"
    seen = f"is on a disk that not all machines of the cluster see ({OTHER} does not); "
    assert do("check", tmp_path, address, tmp_path) == [
        f"INPUT {tmp_path}/in {seen}{share}",
        f"model {gemma_folder} {seen}copy it to the same path on all machines, or name a folder "
        "that they share",
        f"OUTPUT {tmp_path}/new/out {seen}{share}",
        f"file {tmp_path}/photo.png {seen}{share}, or give its bytes",
    ]


@pytest.mark.long
def test_data_in_memory_reaches_all_machines(
    tmp_path: Path, gemma_folder: Path, address: str, hidden: Path
) -> None:
    assert gemma_folder == tmp_path / "gemma"
    assert do("colours", tmp_path, address, hidden) == ["done"]
    assert [*hidden.iterdir()] == []
    assert {path.name for path in tmp_path.iterdir()} == {"gemma", "out"}
