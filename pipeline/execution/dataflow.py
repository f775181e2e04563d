"""The stages as one Ray Data pipeline: work goes in, receipts come out.

Decides what runs as a task and what in an actor, and what happens to a block whose process died:
Ray tries the block once more, in a new one, and then drops it. (By default Ray 2.60 retries without
end, even a row that kills every process.) No receipt names the rows of a dropped block, so the
driver runs them again. It may do so in an isolated flow, in which every block has one row, so that
a row that kills its process affects no other one (`depth`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.engine.orphans import ENGINE_ACTOR_ENV
from pipeline.execution.depth import Care, Depth, depth, images_of
from pipeline.execution.quiet import context_fields
from pipeline.images import VIDEO_SECONDS, ImageLimits
from pipeline.metrics.labels import RunLabels
from pipeline.stages.follow_ups import follow_ups
from pipeline.stages.generate import Generate
from pipeline.stages.parse import Parse
from pipeline.stages.poison_rows import MAX_DEATHS, PoisonRows
from pipeline.stages.read import pack_work, read_units
from pipeline.stages.render import Render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ray.data import Dataset

    from pipeline.contract.config import RunConfig
    from pipeline.contract.task import Task
    from pipeline.engine.interface import Backend
    from pipeline.execution.placement import Placement
    from pipeline.output.journal import Journal
    from pipeline.sources import Source
    from pipeline.sources.units import Work
    from pipeline.stages.drain import Drain
    from pipeline.stages.start_board import StartBoard

READ_BLOCKS = 1000
"""Most read tasks; if there are more units, a task reads several, one after the other."""
SETTINGS = {
    # With these, Ray Data ends a run early. Processes that hang are ended by `watchdog`.
    "max_errored_blocks": -1,
    "execution_no_progress_timeout_s": -1,
    # Ray joins what a task yields to blocks of 128 MB, and divides what is larger. A stage yields
    # sealed blocks, of one row each, which stay as they are where every row is a block.
    "target_max_block_size": 1,
    # Each block in an actor would have a thread that reads the process's memory every second.
    "memory_usage_poll_interval_s": None,
    # Rendered images fill the object store; by default half of it is left unused.
    "override_object_store_memory_limit_fraction": 0.75,
}
"""Fields of Ray Data's `DataContext`."""
WRITES = 16
"""Blocks that a parse actor writes to the journal at once; a slow store takes a second for each."""
RETRIES = 1
"""How often Ray retries a block of several rows whose process died."""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The stages of a run over one batch of units.

    Attributes:
        work: The rows to compute.
        source: Where they are read.
        config: Limits and sizes.
        task: What is done with each row.
        journal: Where finished rows are written.
        backend: What renders and generates.
        placement: How many actors there are, and what each one claims.
        drain: Asks the engines to finish.
        starts: Where the engines tell the steps of their start.
        care: How many rows are worked on at once.
        is_done: Tells of work that another driver has finished; None where there can be none.
    """

    work: Sequence[Work]
    source: Source
    config: RunConfig
    task: Task
    journal: Journal
    backend: Backend
    placement: Placement
    drain: Drain | None = None
    starts: StartBoard | None = None
    care: Care = Care.NONE
    is_done: Callable[[Work], bool] | None = None

    def receipts(self) -> Iterator[dict[str, Any]]:
        """Run the stages.

        Yields:
            A row of `parse.RECEIPT` for each unit in a block, once its rows are in the journal.

        Raises:
            RayError: The cluster lost what the pipeline needs.
        """
        from ray.data import DataContext

        with context_fields(DataContext.get_current(), SETTINGS):
            written = self._parsed(self._generated(self._rendered(self._read())))
        # `iter_rows` would keep each block back until there is another one, to have one in advance.
        for block in written.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            yield from block.to_pylist()

    @property
    def _is_isolated(self) -> bool:
        return self.care is Care.ALONE

    @property
    def _depth(self) -> Depth:
        return depth(
            self.placement,
            rows=sum(piece.rows for piece in self.work),
            block_rows=self.config.block_rows,
            images=images_of(self.task),
            care=self.care,
        )

    @property
    def _poison_rows(self) -> PoisonRows | None:
        return PoisonRows(self.journal.output) if self._is_isolated else None

    @property
    def _restarts(self) -> dict[str, int]:
        """How often an actor is restarted, and a block retried whose actor died."""
        return {"max_restarts": -1, "max_task_retries": self._retries}

    @property
    def _retries(self) -> int:
        """How often a block is tried again whose process died."""
        return MAX_DEATHS - 1 if self._is_isolated else RETRIES

    def _read(self) -> Dataset:
        import ray.data

        items = [{"work": pack_work(work)} for work in self.work]
        blocks = min(len(items), READ_BLOCKS)
        return ray.data.from_items(items, override_num_blocks=blocks).map_batches(
            read_units,
            batch_size=1,
            batch_format="pyarrow",
            fn_kwargs={
                "source": self.source,
                "columns": list(self.task.columns),
                "dedup": self.config.dedup,
                "block_rows": self._depth.block_rows,
                "missing": self.config.missing,
                "is_done": self.is_done,
            },
            compute=ray.data.TaskPoolStrategy(size=self.placement.readers),
            num_cpus=0,
            max_retries=self._retries,
        )

    def _rendered(self, rows: Dataset) -> Dataset:
        from ray.data import ActorPoolStrategy

        config = self.config
        limits = ImageLimits(
            config.max_image_bytes,
            config.max_image_pixels,
            fetch_seconds=config.fetch_seconds,
            allow_private=config.allow_private_addresses,
            storage_options=config.storage_options,
            # Before the watchdog takes a decoder that works for one that hangs.
            video_seconds=min(VIDEO_SECONDS, config.engine.stall_seconds / 2),
            keep_encoded=self.backend.takes_encoded,
        )
        return rows.map_batches(
            Render,
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=self.placement.renderers),
            fn_constructor_args=(
                self.task,
                self.config.engine,
                self.backend.renderer,
                self.source.root,
                limits,
                self._poison_rows,
                self.journal.output,
            ),
            fn_constructor_kwargs={"accepts_denied": config.max_error_rate == 1},
            num_cpus=self.placement.cpu_share,
            **self._restarts,
        )

    def _generated(self, requests: Dataset) -> Dataset:
        from ray.data import ActorPoolStrategy

        size = self._depth
        return requests.map_batches(
            Generate,
            batch_size=1,  # Ray wants one for a stage on GPUs
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                size=self.placement.engines,
                max_tasks_in_flight_per_actor=size.blocks,
                max_concurrent_calls_per_actor=size.blocks,
            ),
            fn_constructor_args=(
                self.config.engine,
                self.backend.engine,
                self._poison_rows,
                self.drain,
                self.starts,
            ),
            fn_constructor_kwargs={
                "requests": self.placement.requests,
                "tells_notes": self.backend.tells_notes,
                "labels": RunLabels.of(str(self.journal.output), self.task.name),
                "follow_ups": follow_ups(
                    self.task, self.config.engine, self.backend.follow_up_renderer
                ),
            },
            num_cpus=self.placement.cpu_share,
            num_gpus=self.placement.engine_gpus or None,
            runtime_env={"env_vars": ENGINE_ACTOR_ENV},
            **self._restarts,
        )

    def _parsed(self, answers: Dataset) -> Dataset:
        from ray.data import ActorPoolStrategy

        calls = 1 if self._is_isolated else WRITES
        return answers.map_batches(
            Parse,
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                size=self.placement.parsers,
                max_tasks_in_flight_per_actor=calls,
                max_concurrent_calls_per_actor=calls,
                enable_true_multi_threading=True,
            ),
            fn_constructor_args=(self.task, self.journal, self._poison_rows),
            num_cpus=0,  # see `placement`
            **self._restarts,
        )
