"""Shows how far the start of the engines is, and what keeps them when rows are back already."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import TYPE_CHECKING

from pipeline.stages.start_board import READY, StartBoard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.execution.engine_logs import EngineLogs
    from pipeline.execution.progress import RunProgress

LOOK_SECONDS = 0.5
GO_ON = "going on"
"""What is shown when nothing keeps the engines any more."""
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
        logs: Gets where the engines log.
        tells_notes: Whether something may keep the engines later, see `Backend`.
    """

    def __init__(
        self, progress: RunProgress, logs: EngineLogs, *, tells_notes: bool = False
    ) -> None:
        self.board = StartBoard()
        self._progress = progress
        self._logs = logs
        self._tells_notes = tells_notes
        self._has_rows = self._was_kept = False
        self._is_over = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._look, name="start", daemon=True)

    def stop(self) -> None:
        """Rows are back, which the progress tells."""
        if self._has_rows:
            return
        with self._turn:
            self._has_rows = True
            self._progress.state("")
            if not self._tells_notes:
                self._is_over.set()

    def end(self) -> None:
        """There is nothing more to look at."""
        self._is_over.set()
        self._thread.join()
        self._logs.add(self.board)
        self._progress.state("")
        self.board.forget()

    def _look(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            with contextlib.suppress(Exception), self._turn:  # Ray's store does not answer now
                if not self._is_over.is_set():
                    self._show()

    def _show(self) -> None:
        """Show what keeps an engine, or how far the start is."""
        self._logs.add(self.board)
        notes = self.board.notes() if self._tells_notes else []
        if notes:
            self._was_kept = True
            self._progress.state(notes[0])
        elif not self._has_rows:
            self._progress.state(describe(self.board.steps()))
        else:
            self._progress.state("", over=GO_ON if self._was_kept else "")


@contextlib.contextmanager
def watching_start(
    progress: RunProgress, logs: EngineLogs, *, tells_notes: bool = False
) -> Iterator[StartWatch]:
    """Within the block, show the steps of the engines' start; `stop` ends that earlier.

    Args:
        progress: Shows it.
        logs: Gets where the engines log.
        tells_notes: Whether to show to the end what keeps engines, see `Backend`.
    """
    watch = StartWatch(progress, logs, tells_notes=tells_notes)
    watch._thread.start()
    try:
        yield watch
    finally:
        watch.end()


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
