"""How full the pipeline keeps engines that only take time, on this machine.

    python -m tests.speed.feed [NAME ...] [--seconds 40]

Everything is the run's own (Ray, read, render, generate, parse, journal, commit) but the engines
(`tests.pipeline.model_engine`) and what a renderer does: of an image it gives empty pixels of the
size that travels. Prints a line for each case: rows each second, the share of the engines' slots
that had rows between the first and the last 5 % of all rows, when no engine had any, seconds of CPU
of the driver and of all processes for 1,000 rows, and the resident memory of the driver and of all
workers after a third of the time and at its most after that.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from unittest import mock

import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import EngineConfig, RunConfig, run
from pipeline.contract.task import (
    ColumnKind,
    Generation,
    ImageRef,
    Prepared,
    Request,
    Result,
    Row,
    Sampling,
)
from pipeline.engine.model_files import BUNDLED
from pipeline.output.journal import Journal
from tests.pipeline.model_engine import Device, model_backend, used
from tests.pipeline.sample_images import encoded, plain

ANSWER = pa.schema([("answer", pa.string())])
PROMPT = "Translate this into German: "


@dataclass(frozen=True)
class SlowJournal(Journal):
    """A journal in a store that takes its time."""

    seconds: float = 0.0

    def append(self, unit_id: str, entries: pa.Table) -> None:
        time.sleep(self.seconds)
        super().append(unit_id, entries)


@dataclass(frozen=True)
class ModelTask:
    """Asks one question about a text or an image."""

    column: str
    kind: ColumnKind
    name: str = "model"
    result_schema: pa.Schema = ANSWER
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        return {self.column: self.kind}

    def prepare(self, row: Row) -> Prepared:
        value = row[self.column]
        if self.kind is ColumnKind.IMAGE:
            return Prepared((Request("Describe it.", Sampling(64), images=(ImageRef(value),)),))
        return Prepared((Request(PROMPT + value, Sampling(256)),))

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        return Result({"answer": generations[0].text})


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured.

    Attributes:
        device: The engines.
        engines: How many.
        kind: What a row is.
        journal_s: Seconds that a journal write takes longer.
        seconds: About how long it is to run.
    """

    device: Device
    engines: int = 1
    kind: ColumnKind = ColumnKind.TEXT
    journal_s: float = 0.0
    seconds: float = 40.0

    @property
    def rows(self) -> int:
        return round(self.seconds * self.device.rows_per_second * self.engines)


RATES = {
    "text-70": Device(slots=256, step_s=0.015, tokens=244),
    "text-300": Device(slots=1024, step_s=0.017, tokens=200),
    "text-1000": Device(slots=1024, step_s=0.016, tokens=64),
    "image-50": Device(slots=128, step_s=0.02, tokens=128),
}
FOUR = Device(slots=64, step_s=0.015, tokens=110, spread=9 / 11)
"""Answers of 20 to 200 tokens."""


def cases(seconds: float) -> dict[str, Case]:
    """All of them by name."""
    made = {}
    for name, device in RATES.items():
        kind = ColumnKind.IMAGE if name.startswith("image") else ColumnKind.TEXT
        for spread in (0.0, 0.5):
            end = "-spread" if spread else ""
            plain_case = Case(device=replace(device, spread=spread), kind=kind, seconds=seconds)
            made[name + end] = plain_case
            made[f"{name}{end}-journal"] = replace(plain_case, journal_s=1.0)
            busy = replace(plain_case.device, front_end=0.6)
            made[f"{name}{end}-busy"] = replace(plain_case, device=busy)
    made["four"] = Case(device=FOUR, engines=4, seconds=seconds)
    made["fast"] = Case(device=replace(RATES["text-1000"], slots=4096), seconds=seconds)
    return made


def write_input(folder: Path, case: Case, files: int = 4) -> None:
    """Rows that are all different, in parquet files."""
    folder.mkdir()
    for file in range(files):
        numbers = range(file, case.rows, files)
        if case.kind is ColumnKind.IMAGE:
            colours = ((n % 251, n // 251 % 251, n // 63_001) for n in numbers)
            values = pa.array([encoded(plain(c, (8, 8)), "PNG") for c in colours], pa.binary())
        else:
            values = pa.array(
                [f"{n} " + "ein roter Kreis neben einem Quadrat. " * 20 for n in numbers]
            )
        table = pa.table({"id": [*numbers], "value": values})
        pq.write_table(table, folder / f"{file}.parquet", row_group_size=1000)


class Processes(threading.Thread):
    """Looks at this process and its descendants every half second, while it runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._cpu: dict[int, float] = {}
        self._names: dict[int, str] = {}
        self._memory: list[tuple[int, int]] = []
        self._over = threading.Event()

    def run(self) -> None:
        """See `threading.Thread.run`."""
        me = psutil.Process()
        while not self._over.wait(0.5):
            own, workers = self._look(me), 0
            for child in me.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    workers += self._look(child)
            self._memory.append((own, workers))

    def _look(self, process: psutil.Process) -> int:
        times, memory = process.cpu_times(), process.memory_info()
        self._cpu[process.pid] = times.user + times.system
        self._names[process.pid] = process.name()
        return int(memory.rss - memory.shared)

    def busiest(self, rows: int) -> str:
        """Milliseconds of CPU for a row, of the processes that took most, their starts included."""
        most = sorted(self._cpu.items(), key=lambda item: -item[1])[:8]
        return ", ".join(f"{self._names[pid]} {cpu * 1000 / rows:.2f}" for pid, cpu in most)

    def told(self, rows: int) -> str:
        """CPU for 1,000 rows; memory after a third of the time, and the most after that."""
        self._over.set()
        later = self._memory[len(self._memory) // 3 :] or [(0, 0)]
        begin, most = later[0], [max(values) for values in zip(*later, strict=True)]
        own, everything = self._cpu.get(os.getpid(), 0.0), sum(self._cpu.values())
        return (
            f"CPU s for 1,000 rows: driver {own * 1000 / rows:5.2f}, "
            f"all {everything * 1000 / rows:6.2f}  "
            f"MB: driver {begin[0] >> 20} to {most[0] >> 20}, "
            f"workers {begin[1] >> 20} to {most[1] >> 20}"
        )


def measure(name: str, case: Case) -> str:
    """Run a case. Returns its line."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "log").mkdir()
        write_input(folder / "in", case)
        engine = EngineConfig(model=str(BUNDLED["demo"]), max_num_seqs=case.device.slots)
        config = RunConfig(
            input=str(folder / "in"),
            output=str(folder / "out"),
            engine=engine,
            engine_replicas=case.engines,
            render_workers=2,
        )
        device = replace(case.device, log=folder / "log")
        processes = Processes()
        processes.start()
        with mock.patch(
            "pipeline.execution.assignment.Journal", partial(SlowJournal, seconds=case.journal_s)
        ):
            result = run(config, ModelTask("value", case.kind), backend=model_backend(device))
        told = f"{processes.told(case.rows)}\n{'':10}ms: {processes.busiest(case.rows)}"
        assert dict(result.outcomes) == {"ok": case.rows}, result.outcomes
        use = used(folder / "log", device)
    return (
        f"{name:24} {use.rows:6} rows {use.rows / use.seconds:7.1f}/s  used {use.used:6.1%}  "
        f"no row {use.idle_s:5.2f} s, longest {use.longest_idle_s:5.2f} s  {told}"
    )


def main() -> None:
    """Measure the cases that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seconds", type=float, default=40.0)
    asked = parser.parse_args()
    found = cases(asked.seconds)
    os.environ.setdefault("RAY_worker_niceness", "0")
    for name in asked.names or found:
        print(measure(name, found[name]), flush=True)


if __name__ == "__main__":
    main()
