"""From a dataset of rows to a dataset of rows with a model's answers, on Ray Data and vLLM.

A row's way: `sources` cut the input into units; `stages` read, render, generate and parse its rows,
with `images` and an `engine`; `output` keeps finished rows and commits whole units; `execution`
runs the stages until all units are committed, and `profiling` measures where the time goes.
`contract.task` is what a job implements. Importing this package imports neither torch, vLLM nor
Ray.
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
    VideoRef,
)
from pipeline.execution.display.json_log import JsonLog
from pipeline.execution.error_rate import ErrorRateError
from pipeline.output.status import Status, failed_rows, status
from pipeline.run import RunResult, retry, run

__all__ = [
    "ColumnKind",
    "EngineConfig",
    "ErrorRateError",
    "Generation",
    "ImageRef",
    "JsonLog",
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
    "VideoRef",
    "failed_rows",
    "retry",
    "run",
    "status",
]
