"""Whatever is killed, and whenever: each row once, in order, with its own answer.

Thousands of rows through Ray with a fake engine, on a disk and on S3, while drivers, render actors,
engine actors and the store's connections are killed at random moments, two drivers run at once for
part of the time, and a reader reads OUTPUT all the while.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import RunConfig
from pipeline.storage.location import INTERNAL, Location, locate
from tests.chaos.proxy import FaultyProxy
from tests.pipeline.sample_images import encoded, plain
from tests.stores import S3, through

FILE_ROWS = 2000
UNIT_ROWS = 400
BLOCK_ROWS = 32
MOST_PEACE_S = 60.0
"""Most seconds between two faults: a driver that is killed over and over gets nowhere."""
SEED = 20261121


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is done, and how often it is disturbed.

    Attributes:
        rows: Of the input.
        rounds: How often each kind of fault comes, all in random order.
        longest_peace: Most rows between two faults.
    """

    rows: int
    rounds: Mapping[str, int]
    longest_peace: int


SMALL = Size(rows=2_000, rounds={"disk": 1, "s3": 1}, longest_peace=150)
FULL = Size(rows=20_000, rounds={"disk": 7, "s3": 4}, longest_peace=500)
SIZES = [
    pytest.param(SMALL, id="small"),
    pytest.param(FULL, id="full", marks=pytest.mark.long),
]


def write_input(folder: Path, rows: int) -> list[list[int] | None]:
    """Images of one colour each, every 50th of them broken; gives the answers that are due."""
    draw = random.Random(3)
    folder.mkdir()
    images, colours = [], []
    for number in range(rows):
        colour = tuple(draw.randrange(1, 255) for _ in range(3))
        is_bad = number % 50 == 49
        images.append(b"\0broken %d" % number if is_bad else encoded(plain(colour, (8, 8)), "PNG"))
        colours.append(None if is_bad else [*colour])
    for start in range(0, rows, FILE_ROWS):
        table = pa.table(
            {"n": [*range(start, start + FILE_ROWS)], "image": images[start : start + FILE_ROWS]}
        )
        pq.write_table(table, folder / f"{start:06}.parquet", row_group_size=UNIT_ROWS)
    return colours


class Reader(threading.Thread):
    """Reads OUTPUT in a loop, as anybody might, and keeps what it saw amiss."""

    def __init__(self, output: Location, unit_rows: int) -> None:
        super().__init__(daemon=True)
        self.output, self.unit_rows = output, unit_rows
        self.faults: list[str] = []
        self.reads = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.2):
            try:
                self._read()
            except Exception as error:
                self.faults.append(f"{type(error).__name__}: {error}")
            self.reads += 1

    def _read(self) -> None:
        seen: list[int] = []
        for name in sorted(self.output.names("part-")):
            with (self.output / name).open() as file:
                numbers = pq.read_table(file, columns=["n"])["n"].to_pylist()
            if numbers != [*range(numbers[0], numbers[0] + self.unit_rows)]:
                self.faults.append(f"{name} is not one whole unit in order")
            seen += numbers
        if len(seen) != len({*seen}) or seen != sorted(seen):
            self.faults.append("a row twice, or out of order between parts")

    def end(self) -> None:
        self._ended.set()
        self.join()


class Chaos:
    """Kills what it is told to, and keeps count."""

    def __init__(
        self, settings: dict[str, Any], output: Location, size: Size, proxy: FaultyProxy | None
    ) -> None:
        self.settings, self.size, self.proxy = settings, size, proxy
        self.drivers: list[subprocess.Popen[str]] = []
        self.done: Counter[str] = Counter()
        self.draw = random.Random(SEED)
        self.output = output
        rounds = size.rounds["s3" if proxy else "disk"]
        self.due = Counter(dict.fromkeys(self.faults(), rounds))

    def start_driver(self) -> None:
        settings = {**self.settings, "join": bool(self.drivers)}
        self.drivers.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.attempt", json.dumps(settings)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "RAY_ADDRESS": ray_address()},
            )
        )

    def kill_driver(self) -> bool:
        running = [driver for driver in self.drivers if driver.poll() is None]
        if not running:
            return False
        victim = self.draw.choice(running)
        victim.kill()
        victim.wait()
        return True

    def kill_actor(self, stage: str) -> bool:
        actors = [process for process, line in ray_workers() if stage in line]
        if not actors:
            return False
        self.draw.choice(actors).kill()
        return True

    def break_store(self, mode: str) -> bool:
        assert self.proxy is not None
        with self.proxy.failing(mode):
            time.sleep(self.draw.uniform(0.5, 2.5))
        return True

    def faults(self) -> dict[str, Callable[[], bool]]:
        kinds: dict[str, Callable[[], bool]] = {
            "driver": self.kill_driver,
            "render actor": lambda: self.kill_actor("Render"),
            "engine actor": lambda: self.kill_actor("Generate"),
        }
        if self.proxy is not None:
            for mode in ("reset", "stall", "503"):
                kinds[f"store {mode}"] = lambda mode=mode: self.break_store(mode)
        return kinds

    def finished(self) -> int:
        """About how many rows are safe: parts, and blocks in the journal."""
        parts = len(self.output.names("part-"))
        return parts * UNIT_ROWS + len((self.output / INTERNAL / "journal").tree()) * BLOCK_ROWS

    def strike(self) -> None:
        """One fault of a random kind, at a random moment of the work."""
        before, wanted = self.finished(), self.draw.randrange(self.size.longest_peace)
        latest = time.monotonic() + MOST_PEACE_S
        while time.monotonic() < latest and self.finished() - before < wanted:
            time.sleep(0.1)
        name = self.draw.choice([*(self.due - self.done).elements()])
        if self.faults()[name]():
            self.done[name] += 1
            print(f"{time.strftime('%X')} {name}, after about {self.finished():,} rows", flush=True)

    def reap(self) -> list[int]:
        """Exit codes of drivers that ended by themselves since the last call."""
        ended = [driver for driver in self.drivers if driver.poll() is not None]
        self.drivers = [driver for driver in self.drivers if driver.poll() is None]
        codes = []
        for driver in ended:
            out, err = driver.communicate()
            codes.append(driver.returncode)
            if driver.returncode not in (0, -9):
                print("a driver ended with", driver.returncode, err[-600:], out[-200:])
        return codes


def ray_address() -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)


def ray_workers(
    prefixes: tuple[str, ...] = ("ray::",),
) -> Iterator[tuple[psutil.Process, str]]:
    """The workers of the cluster that this process has started, with what each does.

    Of this cluster alone: other tests and other people run Ray on this machine as well.
    """
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            line = " ".join(process.cmdline())
            if line.startswith(prefixes):
                yield process, line


def run_through(chaos: Chaos, deadline_s: float) -> None:
    """Start, break and start again until a run comes to its end undisturbed."""
    end = time.monotonic() + deadline_s
    faults = chaos.due.total()
    chaos.start_driver()
    while time.monotonic() < end:
        codes = chaos.reap()
        if 0 in codes and chaos.done == chaos.due:
            break
        if 0 in codes:
            pytest.fail(f"the run ended after {dict(chaos.done)} faults only")
        wanted = 2 if faults // 3 <= chaos.done.total() < 2 * faults // 3 else 1
        while len(chaos.drivers) < wanted:
            chaos.start_driver()
        if chaos.done != chaos.due:
            chaos.strike()
        else:
            time.sleep(0.2)
    else:
        pytest.fail(f"not done within {deadline_s} s; faults: {dict(chaos.done)}")
    for driver in chaos.drivers:  # a second one may still be at its end
        driver.wait(120)


def check(output: Location, colours: list[list[int] | None]) -> None:
    tables = []
    for name in sorted(output.names()):
        assert name.startswith("part-"), f"{name} lies among the parts"
        with (output / name).open() as file:
            tables.append(pq.read_table(file))
    table = pa.concat_tables(tables)
    assert table["n"].to_pylist() == [*range(len(colours))]
    assert table["colour"].to_pylist() == colours
    assert len({*table["row_key"].to_pylist()}) == len(colours)
    expected = ["decode_error" if colour is None else "ok" for colour in colours]
    assert table["outcome"].to_pylist() == expected


def settings(input_: str, output: str, model: Path, **more: Any) -> dict[str, Any]:
    engine = {"model": str(model), "max_num_seqs": 64}
    fields = {"input": input_, "output": output, "engine": engine, "unit_rows": UNIT_ROWS, **more}
    RunConfig.model_validate(fields)
    return fields


def disturb(chaos: Chaos, due: list[list[int] | None]) -> None:
    """A whole run under faults and under a reader's eyes; then everything is there."""
    reader = Reader(chaos.output, UNIT_ROWS)
    reader.start()
    run_through(chaos, 800)
    reader.end()
    print(dict(chaos.done), reader.reads, "reads")
    assert reader.faults == []
    assert reader.reads > 20
    check(chaos.output, due)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("size", SIZES)
def test_on_a_disk(size: Size, tmp_path: Path, gemma_folder: Path) -> None:
    due = write_input(tmp_path / "in", size.rows)
    output = str(tmp_path / "out")
    config = settings(str(tmp_path / "in"), output, gemma_folder)
    disturb(Chaos(config, locate(output), size, None), due)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("size", SIZES)
def test_on_s3(size: Size, tmp_path: Path, gemma_folder: Path, s3: S3) -> None:
    due = write_input(tmp_path / "in", size.rows)
    proxy = FaultyProxy(s3.address)
    output = f"{s3.url}/out"
    options = {"storage_options": through(proxy)}
    config = settings(str(tmp_path / "in"), output, gemma_folder, **options)
    disturb(Chaos(config, locate(output), size, proxy), due)
    proxy.close()
