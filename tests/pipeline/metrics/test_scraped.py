"""What Prometheus finds of a real run, at the port that Ray exports metrics on."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline import EngineConfig, RunConfig, RunResult, run
from pipeline.contract.task import Generation
from pipeline.engine.interface import Backend, EngineStats, Rendered
from pipeline.metrics.labels import RunLabels
from pipeline.metrics.table import TABLE, Kind
from pipeline.profiling.profile import STAGES
from tests.pipeline.fakes import ColourTask, FakeEngine, FakeRenderer
from tests.pipeline.metrics.scrape import Scraped, scraping
from tests.pipeline.sample_images import encoded, plain

ROWS = 640
BROKEN, SAME = 7, 5
UNIT_ROWS = 100
SLOTS = 16
SECONDS = 0.7
"""Of an answer: so the run takes longer than Ray waits to export anything, which is 10 s."""
REPORT_S = 25.0
"""By then, all that was told before is exported."""
RARE = {
    "commit_faults", "engine_restarts", "store_retries", "images_refused", "endpoint_retries",
    "flow_restarts",
}  # fmt: skip
"""What happens in no run that goes well."""


class StatedEngine(FakeEngine):
    """Says what it works on, and that its prefix cache had a half of each prompt."""

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self.working = self.steps = self.prompt_tokens = 0

    async def generate(self, rendered: Rendered, key: str) -> Generation:
        self.working += 1
        await asyncio.sleep(SECONDS)
        answer = await super().generate(rendered, key)
        self.working -= 1
        self.steps += 1
        self.prompt_tokens += 2 * answer.prompt_tokens
        return answer

    def stats(self) -> EngineStats:
        return EngineStats(
            slots=SLOTS,
            running=min(self.working, SLOTS),
            waiting=max(self.working - SLOTS, 0),
            steps=self.steps,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.prompt_tokens // 2,
        )


STATED = Backend(name="fake", renderer=FakeRenderer, engine=StatedEngine)


def run_scraped(folder: Path, model: Path) -> tuple[Scraped, RunResult]:
    """A run that is looked at while it works and after it, until all of it is exported."""
    images = [encoded(plain((n % 250 + 1, n // 250, 3)), "PNG") for n in range(ROWS - SAME)]
    images = [b"broken"] * BROKEN + images[BROKEN:] + images[-SAME:]
    (folder / "in").mkdir()
    pq.write_table(pa.table({"image": images}), folder / "in/a.parquet")
    settings = RunConfig(
        input=str(folder / "in"),
        output=str(folder / "colours"),
        engine=EngineConfig(model=str(model), max_num_seqs=SLOTS),
        unit_rows=UNIT_ROWS,
        block_rows=20,
    )
    with scraping(RunLabels.of(settings.output, "colour").run) as scraped:
        result = run(settings, ColourTask(), backend=STATED)
    until = time.monotonic() + REPORT_S
    while not is_exported(scraped) and time.monotonic() < until:
        time.sleep(1)
        scraped.look()
    return scraped, result


def is_exported(scraped: Scraped) -> bool:
    """Whether the driver's last figures are there: each process exports in its own time."""
    rows, units = (scraped.total(f"gemma3_batch_{n}_total") for n in ("rows", "units_committed"))
    return rows >= ROWS and units >= math.ceil(ROWS / UNIT_ROWS)


@pytest.mark.usefixtures("ray_cluster")
def test_prometheus_finds_what_a_run_did(tmp_path: Path, gemma_folder: Path) -> None:
    found, result = run_scraped(tmp_path, gemma_folder)
    by_outcome = {name: rows for (name,), rows in found.of("gemma3_batch_rows_total").items()}
    assert by_outcome == dict(result.outcomes)
    assert sum(by_outcome.values()) == result.rows == ROWS
    table = result.table()
    for tokens in ("prompt_tokens", "output_tokens"):
        computed = table[tokens].slice(0, ROWS - SAME)  # the others took an identical row's results
        assert found.total(f"gemma3_batch_{tokens}_total") == pc.sum(computed).as_py()
    parts = len([*(tmp_path / "colours").glob("*.parquet")])
    assert found.total("gemma3_batch_units_committed_total") == parts
    assert found.of("gemma3_batch_commit_seconds_count") == {(): parts}
    assert found.of("gemma3_batch_rows_planned") == {(): ROWS}
    check_stages(found)
    check_engine(found)
    present = {name for name, _ in found.values}
    for metric in TABLE:
        name = metric.name.removeprefix("gemma3_batch_").removesuffix("_total")
        suffix = "_count" if metric.kind is Kind.HISTOGRAM else ""
        assert (metric.name + suffix in present) != (name in RARE), metric.name


def check_stages(found: Scraped) -> None:
    rows = {stage: n for (stage,), n in found.of("gemma3_batch_stage_rows_total").items()}
    assert [rows[stage] for stage in (*STAGES, "driver")] == [ROWS] * (len(STAGES) + 1)
    steps = {*found.of("gemma3_batch_stage_seconds_total")}
    assert {("read", "read"), ("render", "decode"), ("journal", "journal")} <= steps
    waited = found.of("gemma3_batch_row_seconds_total")
    # All rows are in the engine's actor for a while, most of it waiting for others.
    assert waited["generate", "inside"] > ROWS * SECONDS
    assert waited["parse", "before"] >= 0
    assert found.of("gemma3_batch_workers")["generate",] == 1


def check_engine(found: Scraped) -> None:
    ((replica,), running), *others = found.of("gemma3_batch_engine_running_requests").items()
    assert not others
    assert len(replica) == 8
    assert 0 <= running <= SLOTS
    assert found.of("gemma3_batch_engine_slots") == {(replica,): SLOTS}
    assert found.total("gemma3_batch_engine_steps_total") > 0
    queries = found.total("gemma3_batch_prefix_cache_queries_total")
    assert found.total("gemma3_batch_prefix_cache_hits_total") == queries / 2 > 0
