"""How much of its engine's rate a job has through the command, without a GPU: `make bench-command`.

Everything is real but the device: the job with all its processes, as the command runs it, vLLM's
scheduler with Gemma 3 4B's layers, and vLLM's `LLM.generate` beside it, given the same rows with
the same settings. The device takes the time that an H200 takes for a step, which the engine plans
while the last one is computed (see :mod:`tests.speed.timed_device`), and answers have one length.
All of it shares this machine's CPUs, so what the job's other processes take from the engine's own
counts more here than beside a GPU that has more cores.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from rich.console import Console

from jobs.cli.bench.measure import bench
from jobs.cli.bench.report import Report
from tests.speed.engine_core import write_checkpoint
from tests.weights import write_weights

H200 = "0.004,1.5e-5,1.1e-5"
"""Seconds of a step of Gemma 3 4B there: for the step, each of its rows, each of its tokens."""
ENGINE_ARGS = {
    "distributed_executor_backend": "tests.speed.timed_device.TimedGpu",
    "load_format": "dummy",
    "max_num_batched_tokens": 16384,
    "block_size": 16,
}


def measure(
    folder: Path,
    *,
    rows: int,
    in_flight: int,
    tokens_in: int = 200,
    tokens_out: int = 200,
    repeats: int = 1,
    console: Console,
) -> Report:
    """Translations of one length.

    Args:
        folder: For the model; it must not exist.
        rows: Rows of each repetition.
        in_flight: Most requests that the engine works on at once.
        tokens_in: Of a text; the prompt has some more.
        tokens_out: Of an answer.
        repeats: How often all sides are measured, one after the other.
        console: Takes the progress.
    """
    folder.mkdir()
    write_weights(folder / "model.safetensors", none=b"none")  # the command refuses none at all
    options = {
        "model": str(write_checkpoint(folder)),
        "to": "de",
        "source": "en",
        "answer_tokens": tokens_out,
        "max_num_seqs": in_flight,
        "engine_args": ENGINE_ARGS,
    }
    return bench(
        job="tests.gpu.fixed_length:TRANSLATE",
        options=options,
        rows=rows,
        input_tokens=tokens_in,
        repeats=repeats,
        compare=True,
        console=console,
    )


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default=H200, help="seconds: a step, a row of it, a token")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    chosen = parser.parse_args()
    os.environ["TIMED_DEVICE"] = chosen.device
    console, found = Console(width=140), {}
    for in_flight in chosen.in_flight:
        with tempfile.TemporaryDirectory() as folder:
            report = measure(
                Path(folder, "model"),
                rows=chosen.rows,
                in_flight=in_flight,
                repeats=chosen.repeats,
                console=Console(stderr=True),
            )
        console.print(f"{in_flight} in flight", report.table())
        found[in_flight] = report.to_json()
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
