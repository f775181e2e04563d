"""Follow-ups: what a row is asked next, once it has answers, in the actor that holds an engine.

The images of its earlier requests are there as the engine takes them, so only text is rendered: no
image is decoded again, and the engine knows them by their fingerprints.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from pipeline.contract.errors import Fault, RowError, one_line
from pipeline.contract.record import Outcome
from pipeline.contract.task import FollowsUp, Measured
from pipeline.engine.startup import attempt
from pipeline.profiling.stopwatch import step
from pipeline.stages.rendered_row import RenderedRow, rendered_or_failed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.task import Generation, Request, Task
    from pipeline.engine.interface import FollowUpRenderer, Rendered
    from pipeline.stages.blocks import Item

    MakeRenderer = Callable[[EngineConfig], FollowUpRenderer]


def follow_ups(
    task: Task, config: EngineConfig, make_renderer: MakeRenderer | None
) -> FollowUps | None:
    """What a task asks next about rows; None for a task that asks everything at once."""
    return FollowUps(task, config, make_renderer) if isinstance(task, FollowsUp) else None


class FollowUps:
    """What a task asks next about rows.

    Args:
        task: The task.
        config: The engine that the requests are for.
        make_renderer: Makes what renders them; called with the first, as there may be none. None if
            the engine is of a backend that renders none.
    """

    def __init__(
        self,
        task: FollowsUp,
        config: EngineConfig,
        make_renderer: MakeRenderer | None,
    ) -> None:
        self._task = task
        self._config = config
        self._make_renderer = make_renderer

    def after(self, item: Item, answers: Sequence[Generation]) -> Item | None:
        """A row with what it asks next, or why it cannot be asked; None if everything is asked.

        Args:
            item: The row; its payload is a `RenderedRow`.
            answers: The answers to that one's requests.
        """
        row: RenderedRow = item.payload
        answered = (*row.answers, *answers)
        if isinstance(self._asking, Fault):
            return item.faulty(self._asking)
        try:
            prepared = self._asking.follow_up(row.state, answered)
            if prepared is None:
                return None
            if isinstance(self._renderer, Fault):
                return item.faulty(self._renderer)
            asked = (*row.asked, *row.requests)
            render = partial(_rendered, asked, self._renderer)
            requests = tuple(rendered_or_failed(each, render) for each in prepared.requests)
            assert requests, "a follow-up asks something"
        except RowError as error:
            return item.failed(error)
        except (Exception, SystemExit) as error:  # the task or the template fails on this row only
            return item.failed(RowError(Outcome.DECODE_ERROR, "render", one_line(error)))
        return item.carrying(RenderedRow(requests, prepared.state, asked, answered))

    @functools.cached_property
    def _renderer(self) -> FollowUpRenderer | Fault:
        if self._make_renderer is None:
            message = "this engine takes no follow-ups; ask everything about a row at once"
            return Fault(ends_run=True, message=message, is_users=True)
        return attempt(self._make_renderer, self._config, "a renderer")

    @functools.cached_property
    def _asking(self) -> FollowsUp | Fault:
        """The task, with a meter if it needs one, or why there is none."""
        if not isinstance(self._task, Measured):
            return self._task
        if isinstance(self._renderer, Fault):
            return self._renderer
        return cast("FollowsUp", self._task.measured(self._renderer))


def _rendered(
    asked: Sequence[Rendered | RowError], renderer: FollowUpRenderer, request: Request
) -> Rendered:
    """The request, with the images and labels of the earlier one that it names."""
    earlier = None if request.images_of is None else asked[request.images_of]
    if isinstance(earlier, RowError):
        raise earlier
    if earlier is not None:
        request = replace(request, labels=earlier.labels)
    with step("tokenise"):
        return renderer.render_follow_up(request, earlier)
