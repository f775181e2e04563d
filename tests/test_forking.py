"""A forked worker is a process of its own, with what Ray gave it, and has imported Ray Data.

A forked engine is one that has imported vLLM, and ends with what stands for it in a run.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.engine import engine_process
from pipeline.engine.engine_process import EngineProcess, wait_for_end
from tests.forking.messages import Wanted
from tests.forking.server import Kind, kind_of


@pytest.mark.usefixtures("ray_cluster")
def test_a_forked_worker_is_a_process_as_any_other() -> None:
    import ray

    class Worker:
        def seen(self) -> tuple[int, int, int, str | None, str]:
            return os.getpid(), os.getpgid(0), os.getppid(), os.environ.get("OF_TEST"), os.getcwd()

        def had_ray_data(self) -> bool:
            return "ray.data._internal.planner.plan_udf_map_op" in sys.modules

    def worker(name: str) -> Any:
        environment = {"env_vars": {"OF_TEST": name}}
        return ray.remote(num_cpus=0, runtime_env=environment)(Worker).remote()

    one, other = worker("one"), worker("other")
    pid, group, template, variable, folder = ray.get(one.seen.remote())
    assert (group, variable, folder) == (pid, "one", os.getcwd())
    assert ray.get(other.seen.remote())[2:4] == (template, "other")
    assert ray.get(one.had_ray_data.remote())
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(one.seen.remote())
    assert ray.get(other.seen.remote())[3] == "other"


@pytest.mark.usefixtures("ray_cluster")
def test_forked_workers_draw_different_random_numbers() -> None:
    import ray

    class Worker:
        def drawn(self) -> list[str]:
            return [ray.ObjectRef.from_random().hex(), ray.NodeID.from_random().hex()]

    workers = [ray.remote(num_cpus=0)(Worker).remote() for _ in range(3)]
    drawn = ray.get([worker.drawn.remote() for worker in workers])
    assert len({name for names in drawn for name in names}) == 2 * len(workers)


@pytest.mark.usefixtures("ray_cluster")
def test_a_forked_worker_imports_from_the_path_that_it_is_given(tmp_path: Path) -> None:
    import ray

    (tmp_path / "only_here_7.py").write_text("VALUE = 7\n")

    def seen() -> int:
        return int(importlib.import_module("only_here_7").VALUE)

    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    worker = ray.remote(num_cpus=0, runtime_env={"env_vars": {"PYTHONPATH": path}})(seen)
    assert ray.get(worker.remote()) == 7


@pytest.mark.usefixtures("ray_cluster")
def test_workers_of_one_template_have_their_own_settings_of_ray() -> None:
    import ray

    class Worker:
        def seen(self) -> tuple[int, int]:
            return os.getppid(), ray._raylet.Config.health_check_period_ms()

    def worker(period: int) -> Any:
        environment = {"env_vars": {"RAY_health_check_period_ms": str(period)}}
        return ray.remote(num_cpus=0, runtime_env=environment)(Worker).remote()

    workers = worker(12345), worker(23456)
    (template, one), (also, other) = ray.get([each.seen.remote() for each in workers])
    assert (template, one, other) == (also, 12345, 23456)


def of_worker(variables: dict[str, str]) -> Kind:
    return kind_of(Wanted(folder="/", command=["default_worker.py"], variables=variables))


def test_workers_of_two_clusters_never_share_a_template() -> None:
    """A worker ends with the raylet that its template was told of (Ray 2.60 reads it once)."""
    one = {"RAY_RAYLET_PID": "1", "RAY_JOB_ID": "01000000", "HOME": "/home"}
    assert of_worker(one) == of_worker({**one, "RAY_JOB_ID": "02000000", "HOME": "/"})
    assert of_worker(one) != of_worker({**one, "RAY_RAYLET_PID": "2"})


def is_forked(process: psutil.Process | None) -> bool:
    return process is not None and "tests.forking.engine_template" in process.cmdline()


def forked_engines() -> set[psutil.Process]:
    """Engines that wait for something: a template's processes' only children."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            keeper = process.parent()
            is_engine = is_forked(process) and is_forked(keeper) and is_forked(keeper.parent())
            if is_engine and process.status() == psutil.STATUS_SLEEPING and not process.children():
                found.add(process)
    return found


@pytest.fixture
def engine() -> Iterator[tuple[EngineProcess, psutil.Process]]:
    """What stands for an engine that waits for its first message, and the engine itself."""
    before = forked_engines()
    started = engine_process.spawn()
    seen: list[set[psutil.Process]] = [set()]
    while len(seen) < 4 or not set.intersection(*seen[-3:]):  # it waits, and for no disk
        time.sleep(0.1)
        seen.append(forked_engines() - before)
    (itself,) = seen[-1]
    yield started, itself
    wait_for_end(started.process, 0)


def test_a_forked_engine_has_imported_vllm_and_is_kept_in_memory_once(
    engine: tuple[EngineProcess, psutil.Process],
) -> None:
    own = engine[1].memory_full_info().uss
    assert own < 100e6 < engine[1].memory_info().rss


def test_a_forked_engine_ends_with_what_stands_for_it(
    engine: tuple[EngineProcess, psutil.Process],
) -> None:
    started, itself = engine
    itself.suspend()  # nothing of its own is asked
    started.process.kill()
    psutil.wait_procs([itself], timeout=20)
    assert not itself.is_running()


def test_what_stands_for_a_forked_engine_ends_as_it_does(
    engine: tuple[EngineProcess, psutil.Process],
) -> None:
    started, itself = engine
    itself.kill()
    assert started.process.wait(20) == -signal.SIGKILL
    with pytest.raises(EOFError):
        started.channel.receive()


def test_its_status_is_passed_on(engine: tuple[EngineProcess, psutil.Process]) -> None:
    engine[0].channel.send("no engine")
    assert engine[0].process.wait(20) == 1
