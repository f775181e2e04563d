"""Whatever is killed, and whenever: each row once, in order, with its own answer.

20,000 rows through Ray with a fake engine, on a disk and on S3, while drivers, render actors,
engine actors and the store's connections are killed at random moments, two drivers run at once for
part of the time, and a reader reads OUTPUT all the while.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
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

ROWS = 20_000
FILE_ROWS = 2000
UNIT_ROWS = 400
BLOCK_ROWS = 32
FAULTS = 21
LONGEST_PEACE = 500
"""Most rows between two faults..."""
MOST_PEACE_S = 60.0
"""...and most seconds: a driver that is killed over and over gets nowhere."""
SEED = 20261121


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
        self, settings: dict[str, Any], output: Location, proxy: FaultyProxy | None
    ) -> None:
        self.settings, self.proxy = settings, proxy
        self.drivers: list[subprocess.Popen[str]] = []
        self.done: Counter[str] = Counter()
        self.draw = random.Random(SEED)
        self.output = output

    def start_driver(self) -> None:
        self.drivers.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.attempt", json.dumps(self.settings)],
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
        actors = [process for process in ray_workers() if stage in process.info["name_line"]]
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
        before, wanted = self.finished(), self.draw.randrange(LONGEST_PEACE)
        patience = time.monotonic() + MOST_PEACE_S
        while time.monotonic() < patience and self.finished() - before < wanted:
            time.sleep(0.1)
        name, act = self.draw.choice([*self.faults().items()])
        if act():
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


def ray_workers(prefixes: tuple[str, ...] = ("ray::",)) -> Iterator[psutil.Process]:
    """Ray's workers of this machine, with what they do in `info["name_line"]`."""
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if line.startswith(prefixes):
            process.info["name_line"] = line
            yield process


def run_through(chaos: Chaos, deadline_s: float) -> None:
    """Start, break and start again until a run comes to its end undisturbed."""
    end = time.monotonic() + deadline_s
    chaos.start_driver()
    while time.monotonic() < end:
        codes = chaos.reap()
        if 0 in codes and chaos.done.total() >= FAULTS:
            break
        if 0 in codes:
            pytest.fail(f"the run ended after {dict(chaos.done)} faults only")
        wanted = 2 if FAULTS // 3 <= chaos.done.total() < 2 * FAULTS // 3 else 1
        while len(chaos.drivers) < wanted:
            chaos.start_driver()
        if chaos.done.total() < FAULTS:
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


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[int] | None]]:
    folder = tmp_path_factory.mktemp("chaos") / "in"
    return folder, write_input(folder, ROWS)


def settings(input_: str, output: str, model: Path, **more: Any) -> dict[str, Any]:
    engine = {"model": str(model), "max_num_seqs": 64}
    fields = {"input": input_, "output": output, "engine": engine, "unit_rows": UNIT_ROWS, **more}
    RunConfig.model_validate(fields)
    return fields


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_cluster")
def test_on_a_disk(
    colours: tuple[Path, list[list[int] | None]], tmp_path: Path, gemma_folder: Path
) -> None:
    folder, due = colours
    output = tmp_path / "out"
    chaos = Chaos(settings(str(folder), str(output), gemma_folder), locate(str(output)), None)
    reader = Reader(locate(str(output)), UNIT_ROWS)
    reader.start()
    run_through(chaos, 800)
    reader.end()
    print(dict(chaos.done), reader.reads, "reads")
    assert reader.faults == []
    assert reader.reads > 20
    check(locate(str(output)), due)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_cluster")
def test_on_s3(colours: tuple[Path, list[list[int] | None]], gemma_folder: Path, s3: S3) -> None:
    folder, due = colours
    proxy = FaultyProxy(s3.address)
    output = f"{s3.url}/out"
    options = {"storage_options": through(proxy)}
    chaos = Chaos(settings(str(folder), output, gemma_folder, **options), locate(output), proxy)
    reader = Reader(locate(output), UNIT_ROWS)
    reader.start()
    run_through(chaos, 800)
    reader.end()
    proxy.close()
    print(dict(chaos.done), reader.reads, "reads")
    assert reader.faults == []
    assert reader.reads > 20
    check(locate(output), due)
