"""From a dataset of rows to a dataset of rows with a model's answers, on Ray Data and vLLM.

The way of a row: `sources` and `units` cut the input, `stages` read, render, generate and parse it,
`journal` keeps and commits it, `run` drives. `task` is what a job fills in. Importing this package
imports neither torch, vllm nor ray.
"""

from pipeline.config import EngineConfig, RunConfig
from pipeline.errors import RowError, RunError, UserError
from pipeline.record import Outcome
from pipeline.run import RunResult, run
from pipeline.task import (
    ColumnKind,
    Generation,
    ImageRef,
    Prepared,
    Request,
    Result,
    Sampling,
    Task,
)

__all__ = [
    "ColumnKind",
    "EngineConfig",
    "Generation",
    "ImageRef",
    "Outcome",
    "Prepared",
    "Request",
    "Result",
    "RowError",
    "RunConfig",
    "RunError",
    "RunResult",
    "Sampling",
    "Task",
    "UserError",
    "run",
]
