from .contract.config import EngineConfig, RunConfig
from .contract.errors import RowError, RunError, UserError
from .contract.record import Outcome
from .contract.task import (
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
from .execution.display.json_log import JsonLog
from .execution.error_rate import ErrorRateError
from .output.status import Status, failed_rows, status
from .output.result import RunResult
from .run import retry, run

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
