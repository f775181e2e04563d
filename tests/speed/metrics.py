"""What metrics cost, in CPU time: `python -m tests.speed.metrics`.

For each block of rows the driver adds up, beside the profile's collector on the same measures; once
a second it tells Ray, and so does an engine's actor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from pipeline.contract.record import Outcome
from pipeline.metrics.labels import RunLabels
from pipeline.metrics.of_engine import EngineMetrics
from pipeline.metrics.of_run import RunMetrics
from pipeline.profiling.collector import Collector
from pipeline.profiling.measures import EngineSlice, Measures, Span

BLOCK_ROWS = 128
STEPS = {
    "read": ("read", "pack"),
    "render": ("unpack", "prepare", "fetch", "decode", "resize", "tokenise", "pack"),
    "generate": ("unpack", "pack"),
    "parse": ("unpack", "parse"),
    "journal": ("journal",),
}
TRIES = 7
LABELS = RunLabels(run="speed-000000", task="caption")
SLICE = EngineSlice(
    began=100.0, ended=101.0, in_flight=16.0, empty=0.0, running=16.0, waiting=4.0, slots=16,
    steps=9, prompt_tokens=900, cached_tokens=300,
)  # fmt: skip


def block() -> Measures:
    """What comes to the driver with a block of rows."""
    spans = (
        Span(stage, 100.0, 101.0, BLOCK_ROWS, dict.fromkeys(steps, 0.1))
        for stage, steps in STEPS.items()
    )
    return Measures(spans=(*spans,), slices=(SLICE,) * 3)


def microseconds(call: Callable[[], object], times: int) -> float:
    """CPU time of this thread for a call; the least of several tries."""

    def once() -> float:
        began = time.thread_time()
        for _ in range(times):
            call()
        return (time.thread_time() - began) / times * 1e6

    return min(once() for _ in range(TRIES))


def main() -> None:
    import ray

    measures, metrics, collector = block(), RunMetrics(LABELS, 10**9), Collector(100.0)
    driver = Measures(spans=(replace(measures.spans[0], stage="driver"),))
    outcomes = {str(outcome): 12 for outcome in Outcome}

    def hear() -> None:
        metrics.measured(measures)
        metrics.measured(driver)
        metrics.finished(outcomes, 9999, 999)

    heard = microseconds(hear, 3000)
    print(f"a block, added up for metrics: {heard:.0f} us, {heard / BLOCK_ROWS:.2f} us a row")
    collected = microseconds(lambda: collector.add(measures), 3000)
    print(f"the same block, added up for the profile: {collected:.0f} us")
    ray.init(
        address="local", include_dashboard=False, log_to_driver=False, object_store_memory=2**28
    )
    metrics.expect(dict.fromkeys(STEPS, 2))

    def second() -> None:
        hear()
        metrics.tell()

    told = microseconds(second, 300) - heard
    print(f"all of it told to Ray, once a second: {told:.0f} us")
    engine = EngineMetrics(LABELS, "00000000")
    print(f"an engine's, once a second: {microseconds(lambda: engine.tell(SLICE), 300):.0f} us")
    ray.shutdown()


if __name__ == "__main__":
    main()
