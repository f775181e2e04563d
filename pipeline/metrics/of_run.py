"""What the driver tells while a run works: all that adds up, and how many rows are left.

It hears what the driver hears (receipts, what was measured, commits), adds it up, and tells Ray
once a second, in a thread of its own: Ray (2.60) forgets a gauge that is not set for 20 s, and the
driver may wait for longer than that.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Self

from pipeline.metrics import table
from pipeline.metrics.instruments import Instruments
from pipeline.profiling.profile import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.metrics.labels import RunLabels
    from pipeline.metrics.table import Metric
    from pipeline.profiling.measures import EngineSlice, Measures, Span

TELL_S = 1.0
"""Seconds between two updates."""
EVENTS = {
    "image_refused": table.IMAGES_REFUSED,
    "endpoint_retry": table.ENDPOINT_RETRIES,
    "engine_restart": table.ENGINE_RESTARTS,
}
"""Metrics of events (`profiling.events`) that have no stage."""

Tags = tuple[tuple[str, str], ...]


class RunMetrics:
    """One driver's. A context manager: within it, what is heard is told. Any thread may call it.

    Args:
        labels: The run's.
        rows: Rows of the whole run.
        done: Those of them that were finished before.
    """

    def __init__(self, labels: RunLabels, rows: int, done: int = 0) -> None:
        self._instruments = Instruments(labels.as_tags())
        self._lock = threading.Lock()
        self._added: defaultdict[tuple[Metric, Tags], float] = defaultdict(float)
        self._commits: list[float] = []
        self._rows, self._left = rows, rows - done
        self._workers: Mapping[str, int] = {}
        self._is_over = threading.Event()
        self._teller = threading.Thread(target=self._tell_regularly, name="metrics", daemon=True)

    def __enter__(self) -> Self:
        self._teller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._teller.join()

    def expect(self, workers: Mapping[str, int]) -> None:
        """Hear how many processes each stage can have."""
        self._workers = dict(workers)

    def skip(self, rows: int) -> None:
        """Hear of rows that are finished without this run."""
        with self._lock:
            self._left -= rows

    def finished(self, outcomes: Mapping[str, int], prompt_tokens: int, output_tokens: int) -> None:
        """Hear of finished rows, by their outcome, and of the tokens that they took."""
        with self._lock:
            for outcome, rows in outcomes.items():
                self._add(table.ROWS, rows, outcome=outcome)
                self._left -= rows
            self._add(table.PROMPT_TOKENS, prompt_tokens)
            self._add(table.OUTPUT_TOKENS, output_tokens)

    def measured(self, measures: Measures) -> None:
        """Hear of what was measured."""
        with self._lock:
            for span in measures.spans:
                self._hear_span(span)
            for piece in measures.slices:
                self._hear_slice(piece)
            self._hear_waits(measures.spans)

    def happened(self, metric: Metric) -> None:
        """Hear of something that happened once."""
        with self._lock:
            self._add(metric, 1)

    def tell(self) -> None:
        """Tell Ray what was heard since the last call."""
        with self._lock:
            added, self._added = self._added, defaultdict(float)
            commits, self._commits = self._commits, []
            left = self._left
        for (metric, tags), amount in added.items():
            self._instruments.tell(metric, amount, dict(tags))
        for seconds in commits:
            self._instruments.tell(table.COMMIT_SECONDS, seconds)
        self._instruments.tell(table.ROWS_LEFT, float(left))
        self._instruments.tell(table.ROWS_PLANNED, float(self._rows))
        for stage, count in self._workers.items():
            self._instruments.tell(table.WORKERS, float(count), {"stage": stage})

    def _tell_regularly(self) -> None:
        while not self._is_over.wait(TELL_S):
            self.tell()
        self.tell()

    def _add(self, metric: Metric, amount: float, **tags: str) -> None:
        self._added[metric, tuple(tags.items())] += amount

    def _hear_span(self, span: Span) -> None:
        stage = span.stage
        self._add(table.STAGE_ROWS, span.rows, stage=stage)
        for step, seconds in span.seconds.items():
            self._add(table.STAGE_SECONDS, seconds, stage=stage, step=step)
        if stage in STAGES:
            inside = span.rows * max(0.0, span.ended - span.began)
            self._add(table.ROW_SECONDS, inside, stage=stage, where="inside")
        if stage == "commit":
            self._commits.append(max(0.0, span.ended - span.began))
        for event, times in span.events.items():
            if event == "store_retry":
                self._add(table.STORE_RETRIES, times, stage=stage)
            else:
                self._add(EVENTS[event], times)

    def _hear_slice(self, piece: EngineSlice) -> None:
        self._add(table.ENGINE_STEPS, piece.steps)
        self._add(table.PREFIX_CACHE_QUERIES, piece.prompt_tokens)
        self._add(table.PREFIX_CACHE_HITS, piece.cached_tokens)

    def _hear_waits(self, spans: Sequence[Span]) -> None:
        """Hear how long rows waited before each stage; spans that came together are of the same."""
        for before, stage in pairwise(STAGES[:-1]):
            began = min((span.began for span in spans if span.stage == stage), default=None)
            if began is None:
                continue
            for span in spans:
                if span.stage == before:
                    waited = span.rows * max(0.0, began - span.ended)
                    self._add(table.ROW_SECONDS, waited, stage=stage, where="before")
