"""Shows how far the engines' start is, until the first rows are back."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import TYPE_CHECKING

from pipeline.stages.start_board import READY, StartBoard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.execution.progress import RunProgress

LOOK_SECONDS = 0.5
NAMES = {
    "fetch": "fetching the model to this machine",
    "imports": "importing vLLM",
    "configuration": "reading the model's configuration",
    "weights": "loading the weights",
    "compile": "compiling, and measuring memory",
    "graphs": "warming up",
    READY: "waiting for the first rows",
}
"""What is shown for a step, in the order of the steps."""


class StartWatch:
    """Looks at a board until it is told to stop.

    Args:
        progress: Shows it.
    """

    def __init__(self, progress: RunProgress) -> None:
        self.board = StartBoard()
        self._progress = progress
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="start", daemon=True)

    def stop(self) -> None:
        """Rows are back, which the progress tells."""
        self._is_over.set()

    def _look(self) -> None:
        shown = ""
        while not self._is_over.wait(LOOK_SECONDS):
            with contextlib.suppress(Exception):  # Ray's store does not answer now
                text = describe(self.board.steps())
                if text != shown and not self._is_over.is_set():
                    self._progress.say(text)
                    shown = text


@contextlib.contextmanager
def watching_start(progress: RunProgress) -> Iterator[StartWatch]:
    """Within the block, show the steps of the engines' start; `stop` ends that earlier.

    Args:
        progress: Shows it.
    """
    watch = StartWatch(progress)
    watch._thread.start()
    try:
        yield watch
    finally:
        watch.stop()
        watch._thread.join()
        watch.board.forget()


def describe(steps: Sequence[str]) -> str:
    """One line: what the engine that is furthest behind does, and how many are ready.

    Args:
        steps: One for each engine that has begun.
    """
    if not steps:
        return "starting the engine and the renderers"
    order = [*NAMES]
    last = min(steps, key=lambda step: order.index(step) if step in order else -1)
    text = f"starting the engine: {NAMES.get(last, last)}" if last != READY else NAMES[READY]
    if len(steps) == 1:
        return text
    return f"{text} ({Counter(steps)[READY]} of {len(steps)} engines are ready)"
