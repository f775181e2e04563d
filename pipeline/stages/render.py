"""Render: from a row to engine-ready requests, in CPU actors, so the engine does no image work.

A row that cannot be rendered gets an outcome; the others of its block are not affected. Where a
store refuses all of them, the run ends instead (`store_faults`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pipeline.contract.errors import Fault, RowError, one_line
from pipeline.contract.record import Outcome
from pipeline.contract.task import Measured, VideoRef
from pipeline.engine.startup import attempt
from pipeline.engine.watchdog import Watchdog
from pipeline.images import ImageLimits, StoreError, load_image, load_video, store_of
from pipeline.profiling.measures import Measures, Moment, Stretch
from pipeline.profiling.stopwatch import step
from pipeline.stages.blocks import Item, measures_of, pack, seal, unpack, unseal
from pipeline.stages.rendered_row import RenderedRow, rendered_or_failed
from pipeline.stages.store_faults import StoreFaults
from pipeline.storage.write_fault import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa
    from PIL.Image import Image

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import ImageRef, Request, Task
    from pipeline.engine.interface import Rendered, Renderer
    from pipeline.stages.poison_rows import PoisonRows
    from pipeline.storage.location import Location


@dataclass(frozen=True)
class Shown:
    """What a request shows of one cell.

    Attributes:
        images: Its image, or the frames of its video.
        labels: Text before each one; empty for an image.
    """

    images: tuple[Image, ...]
    labels: tuple[str, ...] = ("",)


Loaded = dict[tuple[int, tuple[int, float | None] | None], "Shown | RowError"]
"""What a row's cells show, by the cell and, of a video, how many frames are asked for."""
BLOCK_BYTES = 32 * 896 * 896 * 3
"""Bytes of images after which a block goes on; the rows that are left make another one."""


class Render:
    """The stage's actor.

    Args:
        task: What is done with each row.
        config: The engine that the requests are for.
        make_renderer: Makes the renderer; called in the actor.
        root: The folder that relative image paths start from.
        limits: Which images are refused.
        poison_rows: Where isolated rows are marked; None if rows are not isolated.
        output: OUTPUT, for `StoreFaults`; None notes nothing there.
    """

    def __init__(
        self,
        task: Task,
        config: EngineConfig,
        make_renderer: Callable[[EngineConfig], Renderer],
        root: Location,
        limits: ImageLimits,
        poison_rows: PoisonRows | None = None,
        output: Location | None = None,
        *,
        accepts_denied: bool = False,
    ) -> None:
        self._renderer = attempt(make_renderer, config, "a renderer")
        self._task = task
        if isinstance(task, Measured) and not isinstance(self._renderer, Fault):
            self._task = task.measured(self._renderer)
        self._root = root
        self._limits = limits
        self._poison_rows = poison_rows
        self._stores = StoreFaults(output, accepts_denied=accepts_denied)
        self._watchdog = Watchdog(config.stall_seconds)
        self._measures = Measures(moments=(Moment("renderer_ready", time.time()),))

    def __call__(self, sealed: pa.Table) -> Iterator[pa.Table]:
        """Render sealed blocks to sealed ones: of rows as dicts, `RenderedRow`s.

        Yields:
            A block, or several of `BLOCK_BYTES` where rows have many images.
        """
        for block in unseal(sealed):
            self._measures += measures_of(block)
            rows = unpack(block)
            left = block.num_rows
            while left:
                measured = Stretch("render", self._measures)
                rendered = self._some_of(rows)
                left -= len(rendered)
                yield seal(pack(self._stores.judged(rendered), measured))
                self._measures = Measures()

    def _some_of(self, rows: Iterator[Item]) -> list[tuple[Item, StoreError | None]]:
        """The next rows rendered, until their images take `BLOCK_BYTES`."""
        rendered, size = [], 0
        with self._watchdog:
            for row in rows:
                rendered.append(self._take(row))
                payload = rendered[-1][0].payload
                size += payload.nbytes if isinstance(payload, RenderedRow) else 0
                if size >= BLOCK_BYTES:
                    break
        return rendered

    def _take(self, item: Item) -> tuple[Item, StoreError | None]:
        """The row rendered, and the refusal of one of its images."""
        if item.is_settled:
            return item, None
        if isinstance(self._renderer, Fault):
            return item.faulty(self._renderer), None
        if self._poison_rows is None:
            return self._render_row(item, self._renderer)
        try:
            with self._poison_rows.isolated("render", item.unit, item.position):
                return self._render_row(item, self._renderer)
        except OutputError as error:
            return item.faulty(Fault(ends_run=True, message=str(error))), None

    def _render_row(self, item: Item, renderer: Renderer) -> tuple[Item, StoreError | None]:
        self._watchdog.reset()
        images: Loaded = {}
        rendered = self._rendered(item, renderer, images)
        refusals = (found for found in images.values() if isinstance(found, StoreError))
        return rendered, next(refusals, None)

    def _rendered(self, item: Item, renderer: Renderer, images: Loaded) -> Item:
        try:
            prepared = self._task.prepare(item.payload)
            render = partial(self._render_request, renderer, images)
            requests = tuple(rendered_or_failed(each, render) for each in prepared.requests)
            return item.carrying(RenderedRow(requests, prepared.state))
        except RowError as error:
            return item.failed(error)
        except (Exception, SystemExit) as error:  # the task or the processor fails on this row only
            fault = RowError(Outcome.DECODE_ERROR, "render", one_line(error))
            return item.failed(fault)

    def _render_request(self, renderer: Renderer, images: Loaded, request: Request) -> Rendered:
        shown = [self._load(image, images) for image in request.images]
        labels = tuple(label for one in shown for label in one.labels)
        with step("tokenise"):
            return renderer.render(
                replace(request, labels=labels) if any(labels) else request,
                [image for one in shown for image in one.images],
            )

    def _load(self, image: ImageRef | VideoRef, images: Loaded) -> Shown:
        """Load an image once for all requests of its row, and fail for all of them."""
        frames = (image.most, image.fps) if isinstance(image, VideoRef) else None
        found = images.get((id(image.value), frames))
        if found is None:
            found = images[id(image.value), frames] = self._try_to_load(image)
        if isinstance(found, RowError):
            raise found
        return found

    def _try_to_load(self, image: ImageRef | VideoRef) -> Shown | RowError:
        self._watchdog.reset()  # every image may come from a slow server
        found: Shown | RowError
        try:
            found = self._shown(image)
        except RowError as error:
            found = error
        store = store_of(image.value, self._root)
        if store is not None and not isinstance(found, StoreError):
            self._stores.answered(store)
        return found

    def _shown(self, image: ImageRef | VideoRef) -> Shown:
        """Raises RowError."""
        if not isinstance(image, VideoRef):
            return Shown((load_image(image.value, self._root, self._limits),))
        frames = load_video(image.value, self._root, self._limits, most=image.most, fps=image.fps)
        return Shown(tuple(frame.image for frame in frames), tuple(frame.label for frame in frames))
