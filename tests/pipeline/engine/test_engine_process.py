"""The process of an engine as the one who asks sees it: its start, its answers and its end."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest

from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import RowError, UserError
from pipeline.contract.task import Sampling
from pipeline.engine import engine_process, preload
from pipeline.engine.interface import EngineDiedError, Rendered
from pipeline.engine.startup import following_steps
from pipeline.engine.vllm_engine import VllmEngine

LIGHT = "tests.pipeline.engine.light_process"


@pytest.fixture(autouse=True)
def without_vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine_process, "MODULE", LIGHT)
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", str(tmp_path))


@pytest.fixture
def engine() -> Iterator[VllmEngine]:
    engine = VllmEngine(EngineConfig(model="fine"))
    yield engine
    engine.close()


def request(prompt: Any) -> Rendered:
    return Rendered(prompt, 1, Sampling(9))


def test_its_start_is_told_step_by_step() -> None:
    steps: list[str] = []
    with following_steps(steps.append):
        engine = VllmEngine(EngineConfig(model="fine"))
    stats = engine.stats()
    engine.close()
    assert steps == ["imports", "weights"]
    assert [*stats.start] == steps
    assert (stats.slots, stats.kv_tokens, engine.model_class) == (7, 70, "light")


def test_answers_go_to_those_who_asked(engine: VllmEngine) -> None:
    pixels = np.full((3, 896, 896), 2, np.uint8)

    async def ask() -> list[Any]:
        prompts = ["one", pixels, "refuse", "two"]
        asked = (engine.generate(request(p), str(n)) for n, p in enumerate(prompts))
        return await asyncio.gather(*asked, return_exceptions=True)

    one, image, refused, two = asyncio.run(ask())
    assert (one.text, two.text) == ("one", "two")
    assert image.text == f"(3, 896, 896) {2 * 3 * 896 * 896}"
    assert isinstance(refused, RowError)
    assert str(refused) == "generate: not this one"
    assert (engine.stats().running, engine.stats().waiting) == (3, 2)


def test_a_request_that_nobody_waits_for_is_aborted(engine: VllmEngine) -> None:
    async def give_up() -> str:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.generate(request("wait"), "late"), 0.01)
        return (await engine.generate(request("aborted"), "next")).text

    assert asyncio.run(give_up()) == "0"  # the number of the first


def test_one_key_may_be_asked_for_twice_at_once(engine: VllmEngine) -> None:
    """As where Ray tries a block again whose first call still runs."""

    async def ask() -> list[str]:
        asked = (engine.generate(request(prompt), "same") for prompt in ("one", "two", "three"))
        return [answer.text for answer in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == ["one", "two", "three"]


def test_a_request_that_does_not_pickle_fails_alone(engine: VllmEngine) -> None:
    async def ask() -> list[Any]:
        asked = [engine.generate(request(prompt), prompt and "x") for prompt in (lambda: 1, "fine")]
        return await asyncio.gather(*asked, return_exceptions=True)

    refused, fine = asyncio.run(ask())
    assert isinstance(refused, RowError)
    assert str(refused).startswith("generate: the request cannot be sent to the engine: ")
    assert fine.text == "fine"


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        ("refused", UserError, "^refused because of this$"),
        ("failed", RuntimeError, "^failed because of this$"),
        ("killed", RuntimeError, r"^its process ended \(SIGKILL\)$"),
    ],
)
def test_a_start_that_fails_says_why_and_leaves_nothing(
    model: str, error: type[Exception], says: str, tmp_path: Path
) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(error, match=says):
        VllmEngine(EngineConfig(model=model))
    assert [*tmp_path.iterdir()] == []
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("die", "the engine died: out of memory"),
        ("segfault", "the engine died: its process ended (SIGSEGV)"),
    ],
)
def test_all_requests_of_an_engine_that_dies_learn_it(
    prompt: str, says: str, tmp_path: Path
) -> None:
    engine = VllmEngine(EngineConfig(model="fine"))

    async def ask() -> list[BaseException | object]:
        asked = [engine.generate(request(text), text) for text in ("wait", prompt)]
        died = await asyncio.gather(*asked, return_exceptions=True)
        later = await asyncio.gather(
            engine.generate(request("late"), "late"), return_exceptions=True
        )
        return [*died, *later]

    told = asyncio.run(asyncio.wait_for(ask(), 60))
    assert [type(error) for error in told] == 3 * [EngineDiedError]
    assert {str(error) for error in told} == {says}
    assert [*tmp_path.iterdir()] == []
    engine.close()


def test_an_engine_that_is_closed_leaves_nothing(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    engine = VllmEngine(EngineConfig(model="fine"))
    assert [*tmp_path.iterdir()] != []
    engine.close()
    assert [*tmp_path.iterdir()] == []
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


HOLDER = f"""
import asyncio, sys
from pipeline.contract.config import EngineConfig
from pipeline.contract.task import Sampling
from pipeline.engine import engine_process, vllm_engine
from pipeline.engine.interface import Rendered
engine_process.MODULE = {LIGHT!r}
engine = vllm_engine.VllmEngine(EngineConfig(model="fine", stall_seconds=1))
print(engine._engine.process.pid, flush=True)
asyncio.run(engine.generate(Rendered(sys.argv[1], 1, Sampling(9)), "key"))
"""


def test_an_engine_that_hangs_ends_whoever_holds_it() -> None:
    holder = subprocess.run(
        [sys.executable, "-c", HOLDER, "stall"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert holder.returncode == 1
    assert "Timeout" in holder.stderr
    assert_gone(int(holder.stdout))


def test_an_engine_ends_with_whoever_holds_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, "wait"], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        pid = int(holder.stdout.readline())
        holder.kill()
    assert_gone(pid)


def test_nothing_is_started_ahead_where_a_sockets_path_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", str(folder))
    before = light_processes()
    with engine_process.started_ahead(VllmEngine, EngineConfig(model="fine")) as make:
        assert light_processes() == before
        assert make is VllmEngine
    assert [*folder.iterdir()] == []


def test_an_engine_takes_over_a_process_that_was_started_ahead() -> None:
    with engine_process.started_ahead(VllmEngine, EngineConfig(model="fine")) as make:
        (ahead,) = light_processes()
        first, second = make(EngineConfig(model="fine")), make(EngineConfig(model="fine"))
        assert first._engine.process.pid == ahead  # type: ignore[attr-defined]
        assert second._engine.process.pid != ahead  # type: ignore[attr-defined]

        async def ask(engine: Any) -> str:
            return (await engine.generate(request("one"), "key")).text  # type: ignore[no-any-return]

        assert [asyncio.run(ask(engine)) for engine in (first, second)] == ["one", "one"]
        began = time.monotonic()
        first.close()
        second.close()
        assert time.monotonic() - began < engine_process.END_SECONDS, "its end was not seen"
        assert light_processes() == []


def test_a_process_that_is_taken_over_gives_way_as_whoever_took_it_over() -> None:
    """So do Ray's workers; on a CPU it would keep renderers from working."""
    took_over = """
import sys
from pipeline.engine.engine_process import Ahead, adopt
import os, psutil
os.nice(7)
engine = adopt(Ahead(sys.argv[1], int(sys.argv[2])))
print({os.getpriority(os.PRIO_PROCESS, t.id) for t in engine.process.threads()}, flush=True)
"""
    with engine_process.started_ahead(VllmEngine, EngineConfig(model="fine")) as make:
        (ahead,) = light_processes()
        path = make.keywords["ahead"].path  # type: ignore[attr-defined]
        command = [sys.executable, "-c", took_over, path, str(ahead)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == "{7}\n"


def test_of_two_engines_that_start_at_once_one_takes_it_over(tmp_path: Path) -> None:
    """Both ask before it answers, as it is loading."""
    with socket.socket(socket.AF_UNIX) as loading:
        loading.bind(str(tmp_path / "engine"))
        loading.listen(1)
        ahead = engine_process.Ahead(str(tmp_path / "engine"), os.getpid())
        first, second = engine_process.adopt(ahead), engine_process.adopt(ahead)
    assert first is not None
    assert second is None


def test_one_that_nobody_took_over_ends() -> None:
    with engine_process.started_ahead(VllmEngine, EngineConfig(model="fine")):
        assert len(light_processes()) == 1
    assert light_processes() == []


AHEAD = f"""
import asyncio, os, sys, time
from multiprocessing import get_context
from pipeline.contract.config import EngineConfig
from pipeline.contract.task import Sampling
from pipeline.engine import engine_process
from pipeline.engine.interface import Rendered
from pipeline.engine.orphans import ENGINE_ACTOR_ENV
from pipeline.engine.vllm_engine import VllmEngine
engine_process.MODULE = {LIGHT!r}
def hold(make):
    os.environ.update(ENGINE_ACTOR_ENV)
    engine = make(EngineConfig(model="fine", stall_seconds=1))
    asyncio.run(engine.generate(Rendered("stall", 1, Sampling(9)), "key"))
if __name__ == "__main__":
    with engine_process.started_ahead(VllmEngine, EngineConfig(model="fine")) as make:
        holder = get_context("fork").Process(target=hold, args=[make])
        holder.start()
        holder.join()
        print("ended with", holder.exitcode, flush=True)
        time.sleep(3600)
"""


def test_one_that_was_taken_over_ends_with_whoever_holds_it_however_stuck() -> None:
    """Its parent, which started it, is still there."""
    with subprocess.Popen(
        [sys.executable, "-c", AHEAD], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as driver:
        give_up = time.monotonic() + 60
        while not (found := light_processes(driver.pid)):
            assert time.monotonic() < give_up
            time.sleep(0.05)
        assert driver.stdout is not None
        assert driver.stdout.readline() == b"ended with 1\n"
        assert_gone(found[0])
        driver.kill()


def light_processes(parent: int | None = None) -> list[int]:
    """Ids of the processes of engines that one has started, and that run."""
    found = []
    for child in psutil.Process(parent).children(recursive=True):
        try:
            if LIGHT in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def assert_gone(pid: int) -> None:
    give_up = time.monotonic() + 60
    while psutil.pid_exists(pid):
        assert time.monotonic() < give_up, "it is still there"
        time.sleep(0.05)


def test_what_a_process_on_a_cpu_loads_first(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = preload.preloaded({"LD_PRELOAD": "/lib/own.so", "PATH": os.defpath})
    first, *further = loaded["LD_PRELOAD"].split(":")
    assert first == "/lib/own.so"
    assert any("libgomp" in path and Path(path).is_file() for path in further)
    assert loaded["PATH"] == os.defpath
    assert preload.preloaded(loaded) == loaded, "twice is once"
    monkeypatch.setattr(preload, "_runs_on_cpus", lambda: False)
    assert preload.preloaded({"PATH": os.defpath}) == {"PATH": os.defpath}
