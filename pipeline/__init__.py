"""From a dataset of rows to a dataset of rows with a model's answers, on Ray Data and vLLM.

The way of a row: `sources` cut the input into the units of a `plan`; `stages` read, render,
generate and parse it; `journal` keeps and commits it; `run` and its `driver` see that all are done.
`task` is what a job fills in. Importing this package imports neither torch, vllm nor ray.
"""

from pipeline.contract.config import EngineConfig, RunConfig
from pipeline.contract.errors import RowError, RunError, UserError
from pipeline.contract.record import Outcome
from pipeline.contract.task import (
    ColumnKind,
    Generation,
    ImageRef,
    Prepared,
    Request,
    Result,
    Sampling,
    Task,
)
from pipeline.execution.error_rate import ErrorRateError
from pipeline.output.status import Status, failed_rows, status
from pipeline.run import RunResult, retry, run

__all__ = [
    "ColumnKind",
    "EngineConfig",
    "ErrorRateError",
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
    "Status",
    "Task",
    "UserError",
    "failed_rows",
    "retry",
    "run",
    "status",
]
