"""Every metric, once: the documentation, the board and the code take them from here.

Names follow Prometheus' conventions: base units, `_total` for what only grows. Ray puts `ray_`
before them, and labels of its own beside ours (`NodeAddress`, `WorkerId`, ...). No label has a
value for each row, unit or file.

There is no label `job`: Prometheus has one of that name for what it scrapes, and would rename ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "ray_"
"""What Ray puts before the names."""


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


OF_RUN = ("run", "task")
"""Labels of every metric."""
OF_ENGINE = (*OF_RUN, "replica")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: Without Ray's prefix.
        kind: How it behaves.
        unit: What it counts.
        description: What it tells, for people.
        labels: The labels that we give it.
        buckets: Upper bounds of a histogram's buckets.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    labels: tuple[str, ...] = OF_RUN
    buckets: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """The name under which Prometheus finds it; of a histogram, with `_bucket` and so on."""
        return PREFIX + self.name


def _counter(name: str, unit: str, description: str, *labels: str) -> Metric:
    return Metric(
        name=f"gemma3_batch_{name}_total",
        kind=Kind.COUNTER,
        unit=unit,
        description=description,
        labels=(*OF_RUN, *labels),
    )


def _gauge(
    name: str, unit: str, description: str, *labels: str, of: tuple[str, ...] = OF_RUN
) -> Metric:
    return Metric(
        name=f"gemma3_batch_{name}",
        kind=Kind.GAUGE,
        unit=unit,
        description=description,
        labels=(*of, *labels),
    )


ROWS = _counter("rows", "rows", "Rows that this run finished, by what became of them.", "outcome")
ROWS_LEFT = _gauge("rows_left", "rows", "Rows of the run that are still to be finished.")
ROWS_PLANNED = _gauge(
    "rows_planned", "rows", "Rows of the run, those included that an earlier run has finished."
)
PROMPT_TOKENS = _counter(
    "prompt_tokens", "tokens", "Tokens of the prompts of finished rows, soft tokens of images too."
)
OUTPUT_TOKENS = _counter("output_tokens", "tokens", "Tokens of the answers of finished rows.")
UNITS = _counter("units_committed", "units", "Units whose part is written.")
COMMIT_FAULTS = _counter(
    "commit_faults", "units", "Commits that could not be finished; most are tried again."
)
COMMIT_SECONDS = Metric(
    name="gemma3_batch_commit_seconds",
    kind=Kind.HISTOGRAM,
    unit="seconds",
    description="How long the commit of a unit took.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)
STAGE_ROWS = _counter(
    "stage_rows", "rows", "Rows that left a stage; computed twice, counted twice.", "stage"
)
STAGE_SECONDS = _counter(
    "stage_seconds", "seconds", "Seconds that a stage's processes worked, by step.", "stage", "step"
)
ROW_SECONDS = _counter(
    "row_seconds",
    "rows times seconds",
    "Time that rows spent in a stage (`where` is `inside`) or waited for it (`before`). Its rate "
    "is how many rows were there on average.",
    "stage",
    "where",
)
WORKERS = _gauge(
    "workers",
    "processes",
    "Processes of a stage that can work at once; for the journal, threads of those that parse.",
    "stage",
)
STORE_RETRIES = _counter(
    "store_retries",
    "requests",
    "Requests to a store, or to a server of images, that had to be sent again.",
    "stage",
)
IMAGES_REFUSED = _counter(
    "images_refused", "images", "Images that a store did not give: denied, or it does not answer."
)
ENDPOINT_RETRIES = _counter(
    "endpoint_retries", "requests", "Requests to `--endpoint` that had to be sent again."
)
FLOW_RESTARTS = _counter(
    "flow_restarts",
    "times",
    "How often all stages began anew, with rows that were lost on the way.",
)
ENGINE_RESTARTS = _counter(
    "engine_restarts", "engines", "Engines that took the place of one that died."
)
ENGINE_STEPS = _counter("engine_steps", "steps", "Steps of all engines.")
PREFIX_CACHE_QUERIES = _counter(
    "prefix_cache_queries", "tokens", "Tokens of prompts that were looked up in the prefix cache."
)
PREFIX_CACHE_HITS = _counter(
    "prefix_cache_hits", "tokens", "Tokens of prompts that the prefix cache had."
)
ENGINE_RUNNING = _gauge(
    "engine_running_requests", "requests", "Requests that an engine works on.", of=OF_ENGINE
)
ENGINE_WAITING = _gauge(
    "engine_waiting_requests", "requests", "Requests that an engine has besides.", of=OF_ENGINE
)
ENGINE_SLOTS = _gauge(
    "engine_slots", "requests", "Requests that an engine works on at most.", of=OF_ENGINE
)
ENGINE_QUEUED = _gauge(
    "engine_queued_rows", "rows", "Rendered rows that wait in an engine's actor.", of=OF_ENGINE
)
ENGINE_LOOP_BUSY = _gauge(
    "engine_loop_busy_ratio",
    "share of the time",
    "How busy the event loop is that feeds an engine; near 1 it bounds the run.",
    of=OF_ENGINE,
)

TABLE: tuple[Metric, ...] = (
    ROWS,
    ROWS_LEFT,
    ROWS_PLANNED,
    PROMPT_TOKENS,
    OUTPUT_TOKENS,
    UNITS,
    COMMIT_SECONDS,
    COMMIT_FAULTS,
    STAGE_ROWS,
    STAGE_SECONDS,
    ROW_SECONDS,
    WORKERS,
    ENGINE_RUNNING,
    ENGINE_WAITING,
    ENGINE_SLOTS,
    ENGINE_QUEUED,
    ENGINE_LOOP_BUSY,
    ENGINE_STEPS,
    ENGINE_RESTARTS,
    PREFIX_CACHE_QUERIES,
    PREFIX_CACHE_HITS,
    STORE_RETRIES,
    IMAGES_REFUSED,
    ENDPOINT_RETRIES,
    FLOW_RESTARTS,
)
