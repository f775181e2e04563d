"""Render: a row to engine-ready requests, in CPU actors, so that the engine does no image work.

Row by row: one that cannot be rendered becomes an outcome, and the others of its block go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import RowError, one_line
from pipeline.images import ImageLimits, load_image
from pipeline.record import Outcome
from pipeline.stages.blocks import Fault, Item, pack, unpack
from pipeline.stages.start import attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from pipeline.config import EngineConfig
    from pipeline.engine import Rendered, Renderer
    from pipeline.storage import Location
    from pipeline.suspects import Suspects
    from pipeline.task import Request, Task


@dataclass(frozen=True, slots=True)
class Job:
    """A row's rendered requests, and the state its task wants back."""

    requests: tuple[Rendered, ...]
    state: object


class Render:
    """The stage's actor.

    Args:
        task: What a row asks of the model.
        config: The engine the requests are for.
        make_renderer: Makes the renderer, here in the actor.
        root: The folder that relative image paths start from.
        limits: Pictures that are refused.
        suspects: Where rows are marked while they are worked on alone; None for no marks.
    """

    def __init__(
        self,
        task: Task,
        config: EngineConfig,
        make_renderer: Callable[[EngineConfig], Renderer],
        root: Location,
        limits: ImageLimits,
        suspects: Suspects | None = None,
    ) -> None:
        self._task = task
        self._renderer = attempt(make_renderer, config, "a renderer")
        self._root = root
        self._limits = limits
        self._suspects = suspects

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Blocks whose payload is a row become blocks whose payload is a `Job`."""
        yield pack([self._take(item) for item in unpack(block)])

    def _take(self, item: Item) -> Item:
        if item.is_settled:
            return item
        if self._renderer.made is None:
            return item.faulty(Fault(ends_run=True, message=self._renderer.fault))
        if self._suspects is None:
            return self._render_row(item, self._renderer.made)
        with self._suspects.alone("render", item.unit, item.position):
            return self._render_row(item, self._renderer.made)

    def _render_row(self, item: Item, renderer: Renderer) -> Item:
        try:
            prepared = self._task.prepare(item.payload)
            requests = tuple(
                self._render_request(request, renderer) for request in prepared.requests
            )
            return item.carrying(Job(requests, prepared.state))
        except RowError as error:
            return item.failed(error)
        except Exception as error:  # a picture or a text the processor chokes on is one row's fault
            fault = RowError(Outcome.DECODE_ERROR, "render", one_line(error))
            return item.failed(fault)

    def _render_request(self, request: Request, renderer: Renderer) -> Rendered:
        images = [load_image(image.value, self._root, self._limits) for image in request.images]
        return renderer.render(request, images)
