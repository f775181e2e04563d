"""A task whose rows choose the LoRA adapter that answers, by a column."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.contract.task import ColumnKind, FollowsUp, Measured, Prepared, ShowsVideos

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from pipeline.contract.task import Generation, Result, Row, Task, TextMeter


@dataclass(frozen=True)
class AdaptedTask:
    """A task, with an adapter for each row's requests.

    Attributes:
        task: The task itself.
        column: Its name of an adapter is each row's; null or empty text is none.
    """

    task: Task
    column: str

    @property
    def name(self) -> str:
        """See `Task.name`."""
        return self.task.name

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """See `Task.columns`."""
        return {**self.task.columns, self.column: ColumnKind.TEXT}

    @property
    def result_schema(self) -> pa.Schema:
        """See `Task.result_schema`."""
        return self.task.result_schema

    @property
    def settings(self) -> Mapping[str, object]:
        """See `Task.settings`."""
        return self.task.settings

    @property
    def most_frames(self) -> int:
        """See `ShowsVideos.most_frames`."""
        return self.task.most_frames if isinstance(self.task, ShowsVideos) else 0

    def prepare(self, row: Row) -> Prepared:
        """See `Task.prepare`."""
        prepared = self.task.prepare(row)
        adapter = row[self.column] or None
        requests = tuple(replace(request, adapter=adapter) for request in prepared.requests)
        return Prepared(requests, prepared.state)

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        """See `Task.result`."""
        return self.task.result(state, generations)

    def measured(self, meter: TextMeter) -> AdaptedTask:
        """See `Measured.measured`; a task that needs no meter stays as it is."""
        if not isinstance(self.task, Measured):
            return self
        measured: Task = self.task.measured(meter)  # type: ignore[assignment]
        return replace(self, task=measured)


@dataclass(frozen=True)
class AdaptedState:
    """What a row needs of `prepare`.

    Attributes:
        adapter: Its adapter.
        state: What the task itself needs.
    """

    adapter: str | None
    state: object


class AdaptedFollowUps(AdaptedTask):
    """The same for a task that asks more about a row once it has answers."""

    def prepare(self, row: Row) -> Prepared:
        """See `Task.prepare`."""
        prepared = super().prepare(row)
        state = AdaptedState(row[self.column] or None, prepared.state)
        return Prepared(prepared.requests, state)

    def follow_up(self, state: object, generations: Sequence[Generation]) -> Prepared | None:
        """See `FollowsUp.follow_up`."""
        assert isinstance(state, AdaptedState)
        assert isinstance(self.task, FollowsUp)
        prepared = self.task.follow_up(state.state, generations)
        if prepared is None:
            return None
        requests = (replace(request, adapter=state.adapter) for request in prepared.requests)
        return Prepared(tuple(requests), replace(state, state=prepared.state))

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        """See `Task.result`."""
        assert isinstance(state, AdaptedState)
        return super().result(state.state, generations)


def adapted(task: Task, column: str | None) -> Task:
    """The task, with each row's adapter where a column names them."""
    if column is None or isinstance(task, AdaptedTask):
        return task
    kind = AdaptedFollowUps if isinstance(task, FollowsUp) else AdaptedTask
    return kind(task, column)


def original(task: Task) -> Task:
    """The task itself."""
    return task.task if isinstance(task, AdaptedTask) else task
