from .forecast.planning import plan
from .moderation.calibration import calibrate
from .options.job import Job
from .sdk.engine import Engine
from .sdk.function import function_of
from .sdk.functions import caption, moderate, translate
from .sdk.push import push

__all__ = [
    "Engine",
    "Job",
    "calibrate",
    "caption",
    "function_of",
    "moderate",
    "plan",
    "push",
    "translate",
]
