"""A local cluster ends with all its processes, and with no others; a dead one is told in a line."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import RunError, UserError
from pipeline.execution import cluster as module
from pipeline.execution.cluster import GIB, cluster
from pipeline.execution.quiet import noting_variables, removing_variables
from tests.pipeline.execution import fresh_process

CODE = """
import json, logging, os, subprocess, sys, warnings
import psutil, ray
from ray.data import DataContext
from pipeline.execution.cluster import cluster
from pipeline.execution.quiet import quiet

def settings():
    context = DataContext.get_current()
    loggers = [logging.getLogger(name).level for name in ("ray", "ray.data")]
    shown = [context.enable_progress_bars, context.print_on_execution_start]
    filters = [str(entry) for entry in warnings.filters if "ray" in str(entry)]
    return [dict(os.environ), loggers, shown, filters]

def sleeper():
    return subprocess.Popen(["sleep", "600"])

before = settings()
own = [sleeper()]
with cluster(debug=False):
    own.append(sleeper())
    with quiet(debug=False):
        ray.get(ray.remote(num_cpus=0)(lambda: 1).remote())
        within = settings()
    started = psutil.Process().children(recursive=True)
    started = [process for process in started if process.pid not in [p.pid for p in own]]
    print("what is written to stderr meanwhile is shown", file=sys.stderr)
print(json.dumps({
    "started": len(started),
    "left": [str(p) for p in started if p.is_running() and p.status() != "zombie"],
    "own": [p.poll() for p in own],
    "same": [one == other for one, other in zip(before, settings())],
    "within": [one == other for one, other in zip(before, within)],
}))
for process in own:
    process.kill()
"""


def test_a_local_cluster_ends_and_leaves_everything_else_as_it_was() -> None:
    found, said = fresh_process.run(CODE)
    assert found["started"] > 2
    assert found["left"] == []
    assert found["own"] == [None, None]
    assert found["within"][1:] == [False, False, False]
    assert found["same"] == [True, True, True, True]
    assert said == "what is written to stderr meanwhile is shown\n"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_answers_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"{scheme}127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    with pytest.raises(UserError) as told, cluster(debug=False):
        raise AssertionError("nobody is there")
    assert time.monotonic() - began < 10
    assert str(told.value).startswith(f"RAY_ADDRESS={address}: no Ray cluster answers there (")
    assert str(told.value).endswith("unset RAY_ADDRESS to run on this machine alone")


@pytest.mark.parametrize("address", ["head-node", "ray://head:port", "1.2.3.4:"])
def test_an_address_without_a_port_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match="should be HOST:PORT"), cluster(debug=False):
        raise AssertionError("it is no address")


def test_a_start_that_was_too_slow_is_tried_again_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def slow(**_: object) -> None:
        started.append(subprocess.Popen(["sleep", "600"]))
        raise Exception("The current node timed out during startup. This could happen because")

    own = subprocess.Popen(["sleep", "600"])
    monkeypatch.setattr("ray.init", slow)
    try:
        assert not module._has_started(False, {}, gives_up=False)
        with pytest.raises(RunError, match=r"Ray did not start on this machine: .*\n.*try again"):
            module._start_local(False)
        assert len(started) == 1 + module.START_TRIES
        assert all(process.wait(30) for process in started)
        assert own.poll() is None
    finally:
        for process in (own, *started):
            process.kill()


def test_a_temporary_folder_with_a_long_name_is_told_with_the_fix() -> None:
    long = OSError(
        "validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes: x"
    )
    told = pytest.raises(RunError, match=r"\nSet RAY_TMPDIR to a folder with a short name")
    with told, module._start_faults():
        raise long


@pytest.mark.parametrize(
    ("answer", "is_ray"),
    [(b"\0\0\x06\x04\0\0\0\0\0", True), (b"HTTP/1.1 400 Bad Request\r\n", False), (b"", False)],
)
def test_a_port_where_another_program_listens_is_no_cluster(answer: bytes, is_ray: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(answer)

        threading.Thread(target=reply, daemon=True).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if is_ray:
            module._check_answers(address)
            return
        with pytest.raises(UserError, match="another program listens on that port"):
            module._check_answers(address)


@pytest.mark.parametrize(
    ("memory", "shared", "store"),
    [
        (1024, 512, 64),  # GiB
        (128, 100, 16),
        (128, 2, 1.8),  # docker run --shm-size=2g
        (512, 2, 1.8),
        (16, 0.0625, 0.5),  # in a file
        (8, 8, 1),
        (2, 2, 0.5),
    ],
)
def test_the_object_store_fits_into_the_shared_memory(
    monkeypatch: pytest.MonkeyPatch, memory: float, shared: float, store: float
) -> None:
    """Ray would put it on a disk, and says so nowhere that a user looks."""
    free = SimpleNamespace(free=int(shared * GIB))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: free)
    assert module._object_store(int(memory * GIB)) == pytest.approx(store * GIB, rel=0.01)


def test_a_container_s_memory_is_what_it_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = module._memory()
    for content, due in (("max\n", whole), (f"{GIB}\n", GIB), (f"{2**62}\n", whole)):
        (tmp_path / "limit").write_text(content)
        monkeypatch.setattr(module, "MEMORY_LIMITS", (str(tmp_path / "limit"), "/none"))
        assert module._memory() == due


def test_variables_that_are_set_meanwhile_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OF_RAY", raising=False)
    monkeypatch.delenv("OF_A_CALLER", raising=False)
    with removing_variables() as new:
        with noting_variables(new):
            os.environ["OF_RAY"] = "1"
        os.environ["OF_A_CALLER"] = "2"
    assert "OF_RAY" not in os.environ
    assert os.environ.pop("OF_A_CALLER") == "2"
