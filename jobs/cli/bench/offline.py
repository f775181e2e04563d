"""vLLM's `LLM.generate` over a workload, in a process of its own that measures when it is told to.

So an engine can stand ready while another is measured, and leaves nothing behind in this process.
The protocol is a line of JSON each way: a workload and how it is given, what was measured of it.
vLLM's own lines on the standard output are passed over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from jobs.cli.bench.rendered import render
from jobs.cli.bench.workload import Workload
from pipeline import RunError
from pipeline.engine.offline import OfflineEngine
from pipeline.engine.preload import preloaded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ANSWER = "ANSWER "
READY = "READY"
STOP_SECONDS = 60
SHOWN_LINES = 40


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What an engine did with the rows of a workload, all given at once.

    Attributes:
        rows: Rows.
        output_tokens: Generated tokens of all rows.
        seconds: From the first request to the last answer.
    """

    rows: int
    output_tokens: int
    seconds: float


class OfflineProcess:
    """A process with one engine; made at once, the engine then starts. See `offline_process`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait_until_ready(self) -> None:
        """Raises RunError where the engine cannot be started."""
        answer = self._answer()
        assert answer == READY, answer

    def measure(self, workload: Workload, *, rendered: bool = True) -> Answered:
        """Answer a workload whose engine has the same settings.

        Args:
            workload: What is answered.
            rendered: Whether its rows are rendered beforehand; else vLLM prepares their images.

        Raises:
            RunError: The process ended.
        """
        assert self._process.stdin is not None
        asked = {"workload": workload.to_json(), "rendered": rendered}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Answered(**json.loads(self._answer()))

    def _answer(self) -> str:
        assert self._process.stdout is not None
        seen = []
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return line.removeprefix(ANSWER).strip()
            seen.append(line)
        raise RunError("vLLM's offline class failed:\n" + "".join(seen[-SHOWN_LINES:]))


@contextmanager
def offline_process(
    workload: Workload, environment: Mapping[str, str] | None = None
) -> Iterator[OfflineProcess]:
    """Start a process with the engine of a workload; it ends with the block.

    Args:
        workload: Decides the engine's settings.
        environment: Environment variables besides those of this process.
    """
    process = subprocess.Popen(  # noqa: S603  ourselves
        [sys.executable, "-m", "jobs.cli.bench.offline", workload.to_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # As our engine's process has, and those that vLLM starts; this one runs the model itself.
        env={
            **preloaded(os.environ),
            "PYTHONPATH": os.pathsep.join(sys.path),
            **(environment or {}),
        },
    )
    try:
        yield OfflineProcess(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def serve(first: Workload, lines: Iterable[str]) -> None:
    """Start the engine of a workload, and measure others until there are none left."""
    rows = render(first, threads=os.cpu_count() or 1)
    engine = OfflineEngine(rows.engine)
    engine.generate(rows.requests[:1])  # not measured: the first loads libraries
    _say(READY)
    for line in lines:
        asked = json.loads(line)
        workload = Workload.from_json(asked["workload"])
        if workload != first:
            rows, first = render(workload, threads=os.cpu_count() or 1), workload
        began = time.perf_counter()
        if asked["rendered"]:
            tokens = engine.generate(rows.requests)
        else:
            tokens = engine.generate_from(rows.prompts, rows.requests)
        seconds = time.perf_counter() - began
        done = Answered(rows=len(rows.rows), output_tokens=sum(tokens), seconds=seconds)
        _say(json.dumps(asdict(done)))
    engine.close()


def _say(answer: str) -> None:
    print(f"\n{ANSWER}{answer}", flush=True)


if __name__ == "__main__":
    serve(Workload.from_json(sys.argv[1]), sys.stdin)
