"""A process with one engine in it that measures when it is told to.

Ours and vLLM's own model cannot be registered in one process, and a fair comparison alternates
between the two. So each gets a process, which waits without using the machine until it is asked.
The protocol is a line of JSON each way; vLLM's own lines on the standard output are passed over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

ANSWER = "ANSWER "


class Worker:
    """A process that answers to the names of :mod:`tests.speed.measures`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.model_class = str(self._answer())

    def ask(self, measure: str, **arguments: Any) -> Any:
        """Run one measure there and return what it returns."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"measure": measure, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        seen = []
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
            seen.append(line)
        raise RuntimeError("The engine's process ended:\n" + "".join(seen[-40:]))


@contextmanager
def worker(model: Path, *, ours: bool, **engine: Any) -> Iterator[Worker]:
    """Start an engine in a process of its own; our model, or vLLM's without any plugin.

    Args:
        model: A checkpoint's folder.
        ours: Whether our plugin is loaded.
        engine: Arguments of ``vllm.LLM``.
    """
    environment = dict(os.environ)
    environment.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    if not ours:
        environment["VLLM_PLUGINS"] = ""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.speed.worker", str(model), json.dumps(engine)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    try:
        yield Worker(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()


def serve(model: str, engine: Mapping[str, Any], questions: TextIO) -> None:
    """Answer until there are no more questions."""
    from vllm import LLM

    from tests.speed import measures
    from tests.speed.probe import PROBE

    llm = LLM(model, worker_extension_cls=PROBE, disable_log_stats=True, **engine)
    _say(llm.collective_rpc("loaded_model_class")[0])
    for line in questions:
        question = json.loads(line)
        _say(getattr(measures, question.pop("measure"))(llm, **question))
    llm.llm_engine.engine_core.shutdown()


def _say(answer: Any) -> None:
    print(f"\n{ANSWER}{json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], json.loads(sys.argv[2]), sys.stdin)
