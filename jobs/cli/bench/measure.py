"""The command `bench`: what an engine alone can do, and what the whole job makes of it.

Each side answers the same rows with the same settings:

    render      one process renders them, without an engine
    engine      our engine, all requests given at once, rendered beforehand
    offline     vLLM's `LLM.generate`, the same (with `compare`)
    offline_rows  it again from the rows in memory, whose images it decodes and prepares itself
                (with `compare`, of jobs with images)
    job         the whole job, from parquet files to parquet files through Ray

Starting an engine is not counted on any side. Of a job the rate is from the moment when its engine
is ready to its last row, so its first rows wait for nothing else, and its last ones have the engine
to themselves, as on the other sides; the fewer rows, the more such ends weigh. Each repetition
measures all sides one after the other, so that what else the machine does falls on all of them.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.cli.bench.offline import Answered, offline_process
from jobs.cli.bench.rendered import render
from jobs.cli.bench.report import Report, Side
from jobs.cli.bench.workload import synthetic
from jobs.sdk.calls import run_job
from pipeline import UserError
from pipeline.engine.vllm_engine import VllmEngine
from pipeline.output.run_record import SLICE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from jobs.cli.bench.rendered import RenderedRows
    from jobs.cli.bench.workload import Workload


def bench(
    *,
    job: str = "caption",
    options: Mapping[str, Any],
    rows: int,
    input_tokens: int | None = None,
    repeats: int = 1,
    compare: bool = False,
    console: Console,
) -> Report:
    """Measure a job. Its rows and results are deleted afterwards.

    Args:
        job: The name of a job, or the import path of one's own.
        options: Its options by name, the model among them.
        rows: How many rows.
        input_tokens: About how many tokens a row's text has; by default it is one sentence.
        repeats: How often all sides are measured.
        compare: Whether vLLM's offline class is measured too.
        console: Where progress is shown.

    Raises:
        UserError: The job or the model cannot be run.
        RunError: A side could not be finished.
    """
    if options.get("endpoint") is not None:
        raise UserError("endpoint: bench measures engines of this machine; leave it out")
    sliced = next((name for name in SLICE if options.get(name) is not None), None)
    if sliced is not None:  # the job alone would leave rows out
        raise UserError(f"{sliced}: bench measures all rows that it makes; give --rows")
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder, "input")
        workload = synthetic(job, options, where, rows=rows, input_tokens=input_tokens)
        report = Report(job=job, model=str(options["model"]), rows=rows)
        for number in range(1, repeats + 1):
            if repeats > 1:
                console.print(f"bench: {number} of {repeats}", highlight=False)
            _repetition(report, workload, Path(folder, f"results-{number}"), compare, console)
    return report


def _repetition(
    report: Report, workload: Workload, output: Path, compare: bool, console: Console
) -> None:
    rendered = render(workload)
    report.add(Side.RENDER, rows=rendered.rate)
    report.add_answered(Side.ENGINE, measured_engine(rendered))
    has_images = any(prompt.images for prompt in rendered.prompts)
    del rendered
    if compare:
        with offline_process(workload) as offline:
            offline.wait_until_ready()
            report.add_answered(Side.OFFLINE, offline.measure(workload))
            if has_images:
                report.add_answered(Side.ROWS, offline.measure(workload, rendered=False))
    _measure_job(report, workload, output, console)


def measured_engine(rendered: RenderedRows) -> Answered:
    """Our engine with all requests at once; its start is not counted."""

    async def measured() -> Answered:
        engine = VllmEngine(rendered.engine)
        try:
            await engine.generate(rendered.requests[0], "warm-up")
            began = time.perf_counter()
            keyed = (engine.generate(each, str(at)) for at, each in enumerate(rendered.requests))
            answers = await asyncio.gather(*keyed)
            seconds = time.perf_counter() - began
        finally:
            engine.close()
        tokens = sum(answer.output_tokens for answer in answers)
        return Answered(rows=len(rendered.rows), output_tokens=tokens, seconds=seconds)

    return asyncio.run(measured())


def _measure_job(report: Report, workload: Workload, output: Path, console: Console) -> None:
    job = workload.configured()
    done = run_job(job, workload.input, str(output), console=console)
    column = f"{job.options.prefix or ''}output_tokens"
    tokens = sum(count.as_py() or 0 for count in done.table([column])[column])
    report.add(
        Side.JOB, rows=done.rows_per_second, tokens=tokens / done.rows * done.rows_per_second
    )
    report.outcomes = dict(done.outcomes)
    report.profile = done.profile
