"""The server that answers is killed and started again: each row once, with its own answer."""

from __future__ import annotations

import contextlib
import io
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from pipeline import EngineConfig, RunConfig, run
from pipeline.engine.endpoint.availability import TOLD_S
from tests.openai_server import MODEL, free_port
from tests.pipeline.execution.test_run import colours_dataset, read_back
from tests.pipeline.fakes import ColourTask

KILLS = 2
AT_ONCE = 16
SECONDS = 0.03
"""For each request, so that some are on their way at every moment."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is done, and for how many seconds the server is away each time."""

    rows: int
    away: float


SIZES = [
    pytest.param(Size(rows=300, away=1.0), id="small", marks=pytest.mark.long),
    pytest.param(Size(rows=2000, away=TOLD_S + 4), id="full", marks=pytest.mark.long),
]


class KilledServer(threading.Thread):
    """Kills a server while it works, and starts it again after a while, a few times."""

    def __init__(self, folder: Path, size: Size) -> None:
        super().__init__(daemon=True)
        self.port, self.kills = free_port(), 0
        self._size = size
        self._answered = folder / "answered"
        self._answered.touch()
        self._ended = threading.Event()
        self._process = self._start()

    @property
    def answers(self) -> int:
        return self._answered.stat().st_size

    def _start(self) -> subprocess.Popen[bytes]:
        settings = map(str, (self.port, SECONDS, self._answered))
        return subprocess.Popen([sys.executable, "-m", "tests.openai_server", *settings])

    def run(self) -> None:
        for number in range(1, KILLS + 1):
            while self.answers < number * self._size.rows // (KILLS + 1):
                if self._ended.wait(0.02):
                    return
            self._process.kill()
            self._process.wait()
            self.kills += 1
            self._ended.wait(self._size.away)
            self._process = self._start()

    def end(self) -> None:
        self._ended.set()
        self.join()
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def killed(folder: Path, size: Size) -> Iterator[KilledServer]:
    server = KilledServer(folder, size)
    try:
        yield server
    finally:
        server.end()


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("size", SIZES)
def test_a_server_that_is_killed_twice(size: Size, tmp_path: Path) -> None:
    records = colours_dataset(tmp_path / "in", size.rows)
    console = Console(file=io.StringIO(), width=200)
    with killed(tmp_path, size) as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        engine = EngineConfig(model=MODEL, endpoint=url, max_num_seqs=AT_ONCE)
        config = RunConfig(
            input=str(tmp_path / "in"), output=str(tmp_path / "out"), engine=engine, unit_rows=100
        )
        wait_for(server)
        server.start()
        result = run(config, ColourTask(), console=console)
        assert server.kills == KILLS
        # Those that were on their way were asked for again, and no others; and small requests.
        assert server.answers <= size.rows + KILLS * (AT_ONCE + 4) + 8
    table = read_back(tmp_path / "out")
    assert table["n"].to_pylist() == [*range(size.rows)]
    assert table["colour"].to_pylist() == [record["colour"] for record in records]
    assert Counter(table["outcome"].to_pylist()) == {"ok": size.rows}
    assert len({*table["row_key"].to_pylist()}) == result.new_rows == size.rows
    if size.away > TOLD_S:
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert shown.count("the endpoint is away since") >= KILLS, shown
        assert "colour: going on" in shown


def wait_for(server: KilledServer) -> None:
    """Until the server answers for the first time."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port)):
            return
        time.sleep(0.05)
    raise AssertionError("the server did not start")
