"""The command `bench`: how fast this machine renders, generates, and does both through Ray.

Every model captions the bundled drawings; for any but the bundled one they are only load. Times
exclude the engine's start.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.dataset
from rich.table import Table

from jobs.captioning.job import DEFAULT_STYLE
from jobs.captioning.styles import STYLES
from jobs.captioning.task import CaptionTask
from jobs.registry import JOBS, find_model
from jobs.sdk.assembly import configure
from jobs.sdk.calls import run_job
from pipeline.contract.config import EngineConfig, RunConfig
from pipeline.engine.checkpoint import open_checkpoint, resolve_engine
from pipeline.engine.interface import Rendered
from pipeline.engine.renderer import GemmaRenderer
from pipeline.engine.vllm_engine import VllmEngine
from pipeline.images import ImageLimits, load_image
from pipeline.storage.location import Location, locate

if TYPE_CHECKING:
    from rich.console import Console

    from jobs.options.model import Model
    from pipeline.contract.task import Generation, Request


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One line of the table.

    Attributes:
        stage: What was measured.
        rows: Rows per second.
        tokens: Output tokens per second; None for a stage without any.
    """

    stage: str
    rows: float
    tokens: float | None = None


def bench(*, model: str, rows: int, console: Console) -> list[Rate]:
    """Measure, and show a table. The drawings and captions are deleted afterwards.

    Args:
        model: Folder of a Gemma 3 checkpoint, or `demo`.
        rows: Drawings to caption.
        console: Where progress and the table are shown.

    Raises:
        UserError: The model cannot be run.
        RunError: The run through Ray could not be finished.
    """
    from jobs.demo.dataset import write_dataset

    found = find_model(model)
    with tempfile.TemporaryDirectory() as folder:
        drawings, captions = Path(folder, "input"), Path(folder, "captions")
        write_dataset(drawings, rows)
        engine = EngineConfig(model=found.path, dtype=found.dtype)
        engine = resolve_engine(engine, open_checkpoint(engine.model, needs_images=True))
        rendered, rates = _measure_render(found, engine, locate(str(drawings)))
        rates += _measure_generate(engine, rendered)
        job = configure(JOBS["caption"], {"model": model})
        done = run_job(job, str(drawings), str(captions), console=console)
    rates.append(Rate(stage="the whole job through Ray", rows=done.rows_per_second))
    console.print(_table(rates))
    return rates


def _measure_render(
    model: Model, engine: EngineConfig, root: Location
) -> tuple[list[Rendered], list[Rate]]:
    task = CaptionTask(prompt=model.caption_prompt or STYLES[DEFAULT_STYLE].prompt)
    rows = pyarrow.dataset.dataset(root.path).to_table(columns=["image"]).to_pylist()
    requests = [task.prepare(row).requests[0] for row in rows]
    renderer = GemmaRenderer(engine)
    defaults = RunConfig(input=root.path, output=root.path, engine=engine)
    limits = ImageLimits(defaults.max_image_bytes, defaults.max_image_pixels)

    def render(request: Request) -> Rendered:
        images = [load_image(image.value, root, limits) for image in request.images]
        return renderer.render(request, images)

    render(requests[0])  # not measured: the first loads the libraries
    began = time.perf_counter()
    rendered = [render(request) for request in requests]
    seconds = time.perf_counter() - began
    return rendered, [Rate(stage="render, one process", rows=len(requests) / seconds)]


def _measure_generate(config: EngineConfig, rendered: Sequence[Rendered]) -> list[Rate]:
    async def measured() -> tuple[list[Generation], float]:
        engine = VllmEngine(config)
        try:
            await engine.generate(rendered[0], "warm-up")
            began = time.perf_counter()
            keyed = (engine.generate(request, str(key)) for key, request in enumerate(rendered))
            answers = list(await asyncio.gather(*keyed))
            return answers, time.perf_counter() - began
        finally:
            engine.close()

    answers, seconds = asyncio.run(measured())
    tokens = sum(answer.output_tokens for answer in answers)
    return [
        Rate(
            stage="generate, rendered beforehand",
            rows=len(answers) / seconds,
            tokens=tokens / seconds,
        )
    ]


def _table(rates: Sequence[Rate]) -> Table:
    table = Table("stage", "rows/s", "output tokens/s", title="Throughput on this machine")
    for rate in rates:
        tokens = f"{rate.tokens:,.0f}" if rate.tokens is not None else ""
        table.add_row(rate.stage, f"{rate.rows:,.1f}", tokens)
    return table
