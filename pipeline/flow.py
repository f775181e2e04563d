"""The stages on Ray Data, put together: units in, receipts out.

Decides what runs as a task and what in an actor, and how many rows travel together. Ray may repeat
a task, which is harmless: the journal keeps one row per position. It does not restart actors: its
default is to do so endlessly, even for a row that kills every actor it meets (Ray 2.60).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.images import ImageLimits
from pipeline.stages.generate import Generate
from pipeline.stages.parse import parse_block
from pipeline.stages.read import read_units
from pipeline.stages.render import Render

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ray.data import Dataset

    from pipeline.config import RunConfig
    from pipeline.engine import Backend
    from pipeline.journal import Journal
    from pipeline.placement import Placement
    from pipeline.sources import Source
    from pipeline.task import Task
    from pipeline.units import Unit

END_BY_ITSELF = {"RAY_kill_child_processes_on_worker_exit": "0"}
"""Ray would kill an engine's processes before the actor can end them, and what they share in memory
would stay behind (2.60)."""
READ_BLOCKS = 1000
"""Most read tasks; with more units than that, a task reads several, one after the other."""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The stages of one run.

    Attributes:
        units: What to run over.
        source: Where their rows are read.
        config: Limits and sizes.
        task: What is done with a row.
        journal: Where finished rows go.
        backend: What renders and generates.
        placement: How many actors, and what each claims.
    """

    units: Sequence[Unit]
    source: Source
    config: RunConfig
    task: Task
    journal: Journal
    backend: Backend
    placement: Placement

    def receipts(self) -> Iterator[dict[str, Any]]:
        """Run the stages; yields rows of `parse.RECEIPT` as blocks of rows are journalled."""
        written = self._generated(self._rendered(self._read())).map_batches(
            parse_block,
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs={"task": self.task, "journal": self.journal},
            num_cpus=self.placement.cpu_share,
        )
        yield from written.iter_rows()

    def _read(self) -> Dataset:
        import ray.data

        items = [{"unit": unit.to_json()} for unit in self.units]
        blocks = min(len(items), READ_BLOCKS)
        rows = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
            read_units,
            batch_size=1,
            batch_format="pyarrow",
            fn_kwargs={"source": self.source, "columns": list(self.task.columns)},
            num_cpus=self.placement.cpu_share,
        )
        # Ray gathers a task's output into blocks of 128 MB; without this, small pictures would go
        # to the next stage thousands at a time. It is fused into the reading task.
        return rows.repartition(target_num_rows_per_block=self.config.block_rows)

    def _rendered(self, rows: Dataset) -> Dataset:
        from ray.data import ActorPoolStrategy

        config = self.config
        limits = ImageLimits(config.max_image_bytes, config.max_image_pixels)
        return rows.map_batches(
            Render,
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=self.placement.renderers),
            fn_constructor_args=(
                self.task,
                config.engine,
                self.backend.renderer,
                self.source.root,
                limits,
            ),
            num_cpus=self.placement.cpu_share,
            max_restarts=0,
        )

    def _generated(self, requests: Dataset) -> Dataset:
        from ray.data import ActorPoolStrategy

        # Twice what the engine works on at once, so that it never waits for the next block.
        calls = max(2, -(-2 * self.config.engine.max_num_seqs // self.config.block_rows))
        return requests.map_batches(
            Generate,
            # A stage on GPUs must name a batch size; this one keeps the blocks as they are.
            batch_size=self.config.block_rows,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                size=self.placement.engines,
                max_tasks_in_flight_per_actor=calls,
                max_concurrent_calls_per_actor=calls,
            ),
            fn_constructor_args=(self.config.engine, self.backend.engine),
            num_cpus=self.placement.cpu_share,
            num_gpus=self.placement.engine_gpus or None,
            runtime_env={"env_vars": END_BY_ITSELF},
            max_restarts=0,
        )
