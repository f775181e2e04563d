"""A second run finds the one that is at work, and passes over one that was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.contract.errors import UserError
from pipeline.output import heartbeat
from pipeline.output.fencing import begin_epoch
from pipeline.output.heartbeat import STALE_S, Heartbeat, Others, check_alone, turn
from pipeline.storage.atomic import overwrite
from pipeline.storage.location import Location, locate
from tests.pipeline.output.samples import output

__all__ = ["output"]


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.on_sleep: Callable[[], None] = lambda: None
        monkeypatch.setattr(heartbeat, "time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def disk(tmp_path: Path) -> Location:
    return locate(str(tmp_path / "out"))


def signs(output: Location) -> list[Location]:
    folder = output / "_gemma3_batch/drivers"
    return [folder / name for name in folder.names() if name.endswith(".alive")]


def elsewhere(output: Location) -> None:
    """Make it look as if the driver at work were on another machine."""
    (sign,) = signs(output)
    body = {**json.loads(sign.read()), "boot": "another", "host": "far-away"}
    overwrite(sign, json.dumps(body).encode())


def nobody(_: str) -> None:
    pytest.fail("there is nothing to wait for")


def test_a_second_run_is_refused_until_the_first_ends(output: Location) -> None:
    others = Others(output, nobody)
    check_alone(output, others)
    with turn(output, "retry", others):
        expected = rf"a retry, since \S+ on \S+ \(process {os.getpid()}\).*--join"
        with pytest.raises(UserError, match=expected):
            check_alone(output, Others(output, nobody))
        with turn(output, "run", Others(output, nobody), joins=True):  # that joins
            assert len(signs(output)) == 2
    check_alone(output, Others(output, nobody))
    assert signs(output) == []


def test_of_those_that_start_at_once_one_goes_on(output: Location) -> None:
    runs = 6
    with ExitStack() as at_work, ThreadPoolExecutor(runs) as pool:
        for _ in range(runs):  # all were there before any looked around
            check_alone(output, Others(output, nobody))

        def start(_: int) -> int:
            try:
                mine = at_work.enter_context(turn(output, "run", Others(output, nobody)))
            except UserError:
                return 0
            return mine.epoch.number

        started = [number for number in pool.map(start, range(runs)) if number]
        assert len(started) == 1
        assert len(signs(output)) == 1
    assert begin_epoch(output).number == 2  # those that were refused count as no driver


def test_a_late_sign_of_an_earlier_driver_is_seen(
    disk: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has its epoch and no heartbeat yet would be overlooked: so that comes first."""
    seen: list[int] = []

    def spied(output: Location, token: str) -> object:
        seen.append(len(signs(output)))
        return begin_epoch(output, token)

    monkeypatch.setattr(heartbeat, "begin_epoch", spied)
    with turn(disk, "run", Others(disk, nobody), joins=True):
        assert seen == [1]


def test_a_run_that_was_killed_is_passed_over_at_once(disk: Location) -> None:
    code = (
        "import os, sys, signal; from pipeline.output.heartbeat import Heartbeat; "
        "from pipeline.storage.location import locate; "
        "Heartbeat(locate(sys.argv[1]), 'run').start(); print('up', flush=True); "
        "sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, disk.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "up\n"
    with pytest.raises(UserError, match=rf"process {first.pid}\)"):
        check_alone(disk, Others(disk, nobody))
    first.kill()
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    check_alone(disk, Others(disk, nobody))
    assert signs(disk) == []
    first.communicate()


def test_a_process_that_has_the_id_of_a_killed_one_is_another(disk: Location) -> None:
    beat = Heartbeat(disk, "run")
    beat.start()
    (sign,) = signs(disk)
    body = json.loads(sign.read())
    parent = os.getppid()
    for started, is_there in ((body["started"], False), (start_of(parent), True)):
        overwrite(sign, json.dumps({**body, "pid": parent, "started": started}).encode())
        assert bool(Others(disk, nobody).at_work()) == is_there
    beat.stop()


def start_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_a_run_of_this_process_that_ended_without_its_store_is_passed_over(
    disk: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Location) -> None:
        raise OSError("no route to the store")

    with monkeypatch.context() as patched, turn(disk, "run", Others(disk, nobody), joins=True):
        patched.setattr(heartbeat, "remove", fail)
    assert len(signs(disk)) == 1
    check_alone(disk, Others(disk, nobody))
    assert signs(disk) == []


def test_a_run_elsewhere_that_does_not_renew_is_passed_over(disk: Location, clock: Clock) -> None:
    said: list[str] = []
    beat = Heartbeat(disk, "run")
    beat.start()
    elsewhere(disk)
    others = Others(disk, said.append)
    check_alone(disk, others)
    assert STALE_S <= clock.now < STALE_S + 2
    assert len(said) == 1
    assert "waiting up to 30 s" in said[0]
    assert "far-away" in said[0]
    assert signs(disk) == []
    beat.stop()


def test_a_run_elsewhere_that_renews_is_at_work(disk: Location, clock: Clock) -> None:
    with turn(disk, "run", Others(disk, nobody), joins=True):
        elsewhere(disk)
        (sign,) = signs(disk)

        def renew() -> None:
            if clock.now == 10:
                overwrite(sign, sign.read().replace(b'"beats": 1', b'"beats": 2'))

        clock.on_sleep = renew
        with pytest.raises(UserError, match="on far-away"):
            check_alone(disk, Others(disk, lambda _: None))
        assert clock.now == 10


def test_a_run_elsewhere_that_ends_meanwhile_is_not_waited_for(
    disk: Location, clock: Clock
) -> None:
    beat = Heartbeat(disk, "run")
    beat.start()
    elsewhere(disk)
    clock.on_sleep = beat.stop
    check_alone(disk, Others(disk, lambda _: None))
    assert clock.now == 1


def test_a_heartbeat_is_renewed_and_outlives_a_fault_of_the_store(
    disk: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.001)
    faults = iter([False, True, True])

    def sometimes(where: Location, body: bytes, *, sync: bool) -> None:
        if next(faults, False):
            raise OSError("no route to the store")
        overwrite(where, body, sync=sync)

    monkeypatch.setattr(heartbeat, "overwrite", sometimes)
    with turn(disk, "run", Others(disk, nobody), joins=True):
        (sign,) = signs(disk)
        while json.loads(sign.read())["beats"] < 5:
            pass


def test_an_earlier_version_leaves_nothing_to_wait_for(disk: Location) -> None:
    begin_epoch(disk)
    check_alone(disk, Others(disk, nobody))
    with turn(disk, "run", Others(disk, nobody)) as mine:
        assert mine.epoch.number == 2
