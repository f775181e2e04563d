"""The end-to-end table of a GPU: what an engine alone can do, and what our command makes of it.

    make gpu-e2e

Gemma 3 4B with dummy weights, no network. vLLM's own model and ours start side by side, each with a
part of the GPU's memory, and are measured in turn; then each job is run by the command, as a user
runs it, from parquet to parquet, with an engine of the same settings. Each figure is printed as
soon as it is known; what there is no time for is left out and said. Ends with Markdown for
``RESULTS.md``. Into the results folder go the figures, each run's record and what nvidia-smi saw.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from jobs.cli.bench.offline import OfflineProcess, offline_process
from jobs.cli.bench.workload import Workload
from jobs.cli.profile_tables import profile_text
from pipeline import status
from pipeline.output.journal import OF_RUNS
from pipeline.storage.location import INTERNAL
from tests.gpu import dummy, rows
from tests.gpu.bench import versions
from tests.gpu.speed import ENGINE
from tests.speed.worker import Worker, worker

FIXED = "tests.gpu.fixed_length"
JOBS = ("translate", "caption", "moderate")
GOALS: Mapping[str, float] = {"translate": 120, "caption": 60, "moderate": 50}
"""Rows a second through the command, on an H200."""
GOAL_SHARE = 0.95
"""Of the engine alone."""
GOAL_FIRST_ROW = 60
"""Seconds from the command to the first row that is saved, with warm caches."""
SECONDS = 540
"""The whole of it."""
START_SECONDS = 90
"""What a command must have left to be worth starting."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured; a CPU takes less of everything."""

    rows: Mapping[str, int] = field(
        default_factory=lambda: {"translate": 2048, "caption": 1024, "moderate": 768}
    )
    text_tokens: int = 110
    answer_tokens: Mapping[str, int] = field(
        default_factory=lambda: {"translate": 200, "caption": 64}
    )
    width: int = 1024
    height: int = 768
    own_rows: int = 256
    own_tokens_in: int = 226


@dataclass(kw_only=True)
class Figures:
    """Of one job: rows a second, and seconds to the first row. None is not measured."""

    own: float | None = None
    alone: float | None = None
    command: float | None = None
    first_row: float | None = None
    tokens_in: float | None = None
    tokens_out: float | None = None

    @property
    def share(self) -> float | None:
        """Of the engine alone."""
        return self.command / self.alone if self.command and self.alone else None


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is measured, and where it is kept.

    Attributes:
        model: A folder from :func:`tests.gpu.dummy.write`.
        size: How much.
        folder: For the results; new.
        scratch: For rows and outputs.
        options: Options of every job: the engine's.
        own: Arguments of vLLM's own model's engine; None leaves it out.
        ends: When time is up, on the monotonic clock.
        say: Takes each line as soon as it is known.
    """

    model: Path
    size: Size
    folder: Path
    scratch: Path
    options: Mapping[str, Any]
    own: Mapping[str, Any] | None
    ends: float
    say: Callable[[str], None]

    def workloads(self, jobs: tuple[str, ...]) -> dict[str, Workload]:
        """Write the rows of each job."""
        size = self.size
        made = {}
        for job in jobs:
            where = self.scratch / job
            if job == "translate":
                rows.texts(where, size.rows[job], model=self.model, tokens=size.text_tokens)
            else:
                rows.photographs(where, size.rows[job], size.width, size.height)
            made[job] = Workload(
                job=job if job == "moderate" else f"{FIXED}:{job.upper()}",
                options={**self.options, **self._of_the_job(job)},
                input=str(where),
            )
        return made

    def _of_the_job(self, job: str) -> dict[str, Any]:
        own: dict[str, Any] = {"model": str(self.model), "dedup": False}
        if job in self.size.answer_tokens:
            own["answer_tokens"] = self.size.answer_tokens[job]
        # One image a row for all engines, so that they share the memory out alike.
        own |= {"to": "de", "source": "en"} if job == "translate" else {}
        own |= {"max_images": 1} if job == "caption" else {}
        return own


def measure(bench: Bench, jobs: tuple[str, ...] = JOBS) -> dict[str, Figures]:
    """Measure everything there is time for."""
    began = time.monotonic()
    workloads = bench.workloads(jobs)
    bench.say(f"rows are written ({time.monotonic() - began:.0f} s)")
    figures = {job: Figures() for job in jobs}
    _measure_engines(bench, workloads, figures)
    for job in jobs:
        left = bench.ends - time.monotonic()
        if left < START_SECONDS:
            bench.say(f"{job} through the command: no time left ({left:.0f} s)")
            continue
        with _said(bench, f"{job} through the command"):
            _measure_command(bench, job, workloads[job], figures[job])
    return figures


def _measure_engines(
    bench: Bench, workloads: Mapping[str, Workload], figures: Mapping[str, Figures]
) -> None:
    """Both engines, started side by side, measured in turn."""
    began = time.monotonic()
    first = next(iter(workloads.values()))
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        ours = stack.enter_context(offline_process(first))
        own = None if bench.own is None else pool.submit(_own_worker, bench, stack)
        with _said(bench, "our engine alone"):
            ours.wait_until_ready()
            started = time.monotonic() - began
            if own is not None:
                own.exception()  # waits: nothing may start while something is measured
            bench.say(f"our engine is ready ({started:.0f} s)")
            _measure_ours(bench, ours, workloads, figures)
        if own is not None:
            with _said(bench, "vLLM's own model"):
                _measure_own(bench, own.result(), figures)


def _own_worker(bench: Bench, stack: ExitStack) -> Worker:
    assert bench.own is not None
    return stack.enter_context(worker(bench.model, ours=False, **bench.own))


def _measure_ours(
    bench: Bench,
    ours: OfflineProcess,
    workloads: Mapping[str, Workload],
    figures: Mapping[str, Figures],
) -> None:
    for job, workload in workloads.items():
        done = ours.measure(workload)
        figures[job].alone = done.rows / done.seconds
        tokens = done.output_tokens / done.rows
        bench.say(f"{job}, our engine alone: {figures[job].alone:.1f}/s ({tokens:.1f} tokens out)")
        wanted = bench.size.answer_tokens.get(job)
        if wanted is not None and tokens != wanted:
            bench.say(f"  but answers should have {wanted} tokens: some ended early")


def _measure_own(bench: Bench, own: Worker, figures: Mapping[str, Figures]) -> None:
    """vLLM's own model renders itself; its figures are of images rendered beforehand."""
    size = bench.size
    for job, found in figures.items():
        out = size.answer_tokens.get(job, 1)
        if job == "translate":
            tokens_in = size.own_tokens_in
            asked = {"rows": size.own_rows, "tokens_in": tokens_in, "tokens_out": out}
            seconds = own.ask("text", warm=False, **asked)
        else:
            shape = {"width": size.width, "height": size.height}
            seconds = own.ask("captions", rows=size.own_rows, tokens_out=out, **shape)
        found.own = size.own_rows / seconds
        note = " (one policy)" if job == "moderate" else ""
        bench.say(f"{job}, vLLM's own model: {found.own:.1f}/s{note}")


def _measure_command(bench: Bench, job: str, workload: Workload, found: Figures) -> None:
    output, file = bench.scratch / f"{job}-results", bench.scratch / f"{job}.yaml"
    named = {"task" if ":" in workload.job else "job": workload.job}
    fields = {**named, "input": workload.input, "output": str(output), **workload.options}
    file.write_text(yaml.safe_dump(fields), encoding="utf-8")
    log = bench.folder / f"{job}.log"
    with log.open("w") as said, _gpu_trace(bench.folder / f"{job}.gpu.csv"):
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs", "run", str(file)], stdout=said, stderr=said
        )
        try:
            found.first_row = _first_row(process, output, began, bench.ends)
            process.wait(timeout=max(1.0, bench.ends - time.monotonic()))
        finally:
            process.terminate()
            process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}\n{log.read_text()[-2000:]}")
    _read_record(bench, job, output, found)


def _first_row(
    process: subprocess.Popen[bytes], output: Path, began: float, ends: float
) -> float | None:
    """Seconds until the first rows are saved; None where that was not seen.

    A few rows may be committed, and their journal gone, between two looks.
    """
    journal = output / INTERNAL / OF_RUNS
    while process.poll() is None and time.monotonic() < ends:
        if next(journal.glob("*/*.parquet"), None) or next(output.glob("*.parquet"), None):
            return time.monotonic() - began
        time.sleep(0.1)
    return None


def _read_record(bench: Bench, job: str, output: Path, found: Figures) -> None:
    """The run's own figures; its record and its profile are kept."""
    import pyarrow.dataset

    with (bench.folder / f"{job}.profile.txt").open("w") as file:
        Console(file=file, width=120).print(profile_text(status(str(output)).profile))
    kept = bench.folder / f"{job}.run.json"
    shutil.copy(output / INTERNAL / "run.json", kept)
    record = json.loads(kept.read_text())
    found.command = record["rows_per_second"]
    counts = pyarrow.dataset.dataset(output).to_table(columns=["prompt_tokens", "output_tokens"])
    found.tokens_in, found.tokens_out = (
        sum(column.to_pylist()) / counts.num_rows for column in counts.columns
    )
    share = "" if found.share is None else f", {found.share:.3f} of the engine alone"
    first = "not seen" if found.first_row is None else f"after {found.first_row:.0f} s"
    bench.say(
        f"{job} through the command: {found.command:.1f}/s{share}; first row {first}; "
        f"{found.tokens_in:.0f} tokens in, {found.tokens_out:.0f} out; {record['outcomes']}"
    )


@contextlib.contextmanager
def _gpu_trace(file: Path) -> Iterator[None]:
    """What nvidia-smi sees each half second, where there is one."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        yield
        return
    asked = "--query-gpu=timestamp,utilization.gpu,memory.used,power.draw"
    with file.open("w") as trace:
        process = subprocess.Popen(
            [smi, asked, "--format=csv,noheader", "-lms", "500"], stdout=trace
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def _said(bench: Bench, what: str) -> Iterator[None]:
    """What fails is said, and the next thing is measured."""
    try:
        yield
    except Exception as error:
        bench.say(f"{what} FAILED: {error}")


HEAD = (
    "| job | vLLM's own | our engine alone | through the command | of the engine alone "
    "| first row after | tokens in, out |\n| --- | --- | --- | --- | --- | --- | --- |"
)


def markdown(figures: Mapping[str, Figures], device: str) -> str:
    """For ``RESULTS.md``."""
    today = datetime.datetime.now(tz=datetime.UTC).date()
    lines = [
        f"{today}, {device}; {', '.join(versions())}. Rows a second; goals in brackets.",
        "",
        HEAD,
    ]
    for job, found in figures.items():
        cells = (
            job,
            _cell(found.own, ".1f"),
            _cell(found.alone, ".1f"),
            _cell(found.command, ".1f", goal=GOALS[job]),
            _cell(found.share, ".3f", goal=GOAL_SHARE),
            _cell(found.first_row, ".0f", goal=GOAL_FIRST_ROW, unit=" s"),
            f"{_cell(found.tokens_in, '.0f')}, {_cell(found.tokens_out, '.0f')}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | None, form: str, *, goal: float | None = None, unit: str = "") -> str:
    shown = "-" if value is None else f"{value:{form}}{unit}"
    return shown if goal is None else f"{shown} ({goal:g}{unit})"


def run(bench: Bench, device: str, jobs: tuple[str, ...] = JOBS) -> dict[str, Figures]:
    """Measure, and keep the table and the figures in the results folder."""
    bench.folder.mkdir(parents=True)
    figures = measure(bench, jobs)
    table = markdown(figures, device)
    (bench.folder / "table.md").write_text(table + "\n", encoding="utf-8")
    found = {job: {**asdict(each), "share": each.share} for job, each in figures.items()}
    (bench.folder / "figures.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    bench.say(f"\n{table}")
    return figures


def main() -> None:
    """Measure the 4B model on the first GPU."""
    import torch

    from tests.gemma3_model.sizes import config

    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("gpu-e2e"), help="a new folder")
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--memory", type=float, default=0.3, help="of the GPU's, for each engine")
    parser.add_argument("--without-own", action="store_true", help="leave vLLM's own model out")
    parser.add_argument("--options", default="{}", help="further options of every job, as JSON")
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("gpu-e2e: there is no NVIDIA GPU here")
    engine = {"load_format": "dummy", "gpu_memory_utilization": chosen.memory}
    has_own = importlib.util.find_spec("torchvision") is not None and not chosen.without_own
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            model=dummy.write(Path(folder, "model"), config("4b")),
            size=Size(),
            folder=chosen.results,
            scratch=Path(folder),
            options={"dtype": "bfloat16", "engine_args": engine, **json.loads(chosen.options)},
            own={**ENGINE, "gpu_memory_utilization": chosen.memory} if has_own else None,
            ends=began + chosen.seconds,
            say=lambda line: print(f"{time.monotonic() - began:5.0f} s  {line}", flush=True),
        )
        run(bench, torch.cuda.get_device_name(), tuple(chosen.jobs.split(",")))


if __name__ == "__main__":
    main()
