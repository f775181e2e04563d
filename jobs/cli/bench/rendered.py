"""Renders all rows of a workload in this process, without Ray, for sides that want them so."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.dataset

from pipeline.contract.task import ImageRef, Measured
from pipeline.engine.offline import Prompt
from pipeline.engine.renderer import GemmaRenderer
from pipeline.engine.vllm_engine import VLLM
from pipeline.execution.preparation import check_run
from pipeline.images import ImageLimits, load_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL.Image import Image

    from jobs.cli.bench.workload import Workload
    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Row, VideoRef
    from pipeline.engine.interface import Rendered
    from pipeline.execution.preparation import CheckedRun

MEASURED_SECONDS = 5.0
"""How long rendering is measured; rows that are left then are rendered on several threads."""
Requests = tuple["Rendered", ...]
"""Of one row."""


@dataclass(frozen=True, kw_only=True)
class RenderedRows:
    """A workload in memory.

    Attributes:
        engine: The configuration of the engine that the job would run.
        rows: The requests of each row.
        prompts: What all of them ask, as users of vLLM write it.
        rate: Rows a second of one thread.
    """

    engine: EngineConfig
    rows: tuple[Requests, ...]
    prompts: tuple[Prompt, ...]
    rate: float

    @property
    def requests(self) -> list[Rendered]:
        """Those of all rows."""
        return [request for row in self.rows for request in row]


def render(workload: Workload, *, threads: int = 1) -> RenderedRows:
    """Render a workload.

    Args:
        workload: The job and its rows.
        threads: How many render what comes after the first `MEASURED_SECONDS`.

    Raises:
        UserError: The job cannot be run.
        RowError: A row cannot be rendered.
    """
    configured = workload.configured()
    nowhere = f"{workload.input}-results"  # nothing is written
    checked = check_run(configured.run_config(workload.input, nowhere), configured.task(), VLLM)
    columns = [*checked.task.columns]
    rows = pyarrow.dataset.dataset(checked.source.root.path).to_table(columns=columns).to_pylist()
    render_row = _RowRenderer(checked)
    render_row(rows[0])  # not measured: the first loads the libraries
    began = time.perf_counter()
    done: list[Requests] = []
    while len(done) < len(rows) and time.perf_counter() - began < MEASURED_SECONDS:
        done.append(render_row(rows[len(done)]))
    rate = len(done) / (time.perf_counter() - began)
    done += _in_threads(checked, rows[len(done) :], threads)
    prompts = tuple(prompt for row in rows for prompt in render_row.prompts(row))
    engine = checked.config.engine
    return RenderedRows(engine=engine, rows=tuple(done), prompts=prompts, rate=rate)


def _in_threads(checked: CheckedRun, rows: Sequence[Row], threads: int) -> Iterator[Requests]:
    """Each thread has a renderer of its own, as they are made for one."""
    share = -(-len(rows) // threads) or 1
    shares = [rows[at : at + share] for at in range(0, len(rows), share)]
    with ThreadPoolExecutor(threads) as pool:
        for rendered in pool.map(lambda part: [*map(_RowRenderer(checked), part)], shares):
            yield from rendered


class _RowRenderer:
    """What the render stage does with a row that has no fault."""

    def __init__(self, checked: CheckedRun) -> None:
        config = checked.config
        self._renderer = GemmaRenderer(config.engine)
        task = checked.task
        self._task = task.measured(self._renderer) if isinstance(task, Measured) else task
        self._root = checked.source.root
        self._limits = ImageLimits(config.max_image_bytes, config.max_image_pixels)

    def __call__(self, row: Row) -> Requests:
        images: dict[int, Image] = {}  # decoded once for all requests of the row

        def load(image: ImageRef | VideoRef) -> Image:
            assert isinstance(image, ImageRef), "no workload has videos"
            if id(image.value) not in images:
                images[id(image.value)] = load_image(image.value, self._root, self._limits)
            return images[id(image.value)]

        return tuple(
            self._renderer.render(request, [*map(load, request.images)])
            for request in self._task.prepare(row).requests
        )

    def prompts(self, row: Row) -> list[Prompt]:
        """The same requests, with their images as files hold them."""
        return [
            Prompt(
                token_ids=self._renderer.token_ids(request, len(request.images)),
                images=[_file(image) for image in request.images],
            )
            for request in self._task.prepare(row).requests
        ]


def _file(image: ImageRef | VideoRef) -> bytes:
    """A workload's images are all in its parquet file, in Hugging Face's form."""
    assert isinstance(image.value, Mapping)
    content = image.value["bytes"]
    assert isinstance(content, bytes)
    return content
