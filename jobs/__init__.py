"""The jobs people come for, as functions; each is also a command of `gemma3-batch`.

Importing this package imports neither torch, vllm nor ray.
"""

from jobs.moderation.calibration import calibrate
from jobs.sdk.engine import Engine
from jobs.sdk.functions import caption, moderate, translate

__all__ = ["Engine", "calibrate", "caption", "moderate", "translate"]
