"""The jobs people come for, as functions; each is also a command of `gemma3-batch`.

    captioning, translation, moderation   a job each: its options, its task, its columns
    job, registry                         what a job is, and which ones have a name
    options                               what the options of jobs have in common
    sdk, cli                              the jobs from Python, and from the command line
    demo                                  the bundled model and its drawings

Importing this package imports neither torch, vllm nor ray.
"""

from jobs.job import Job
from jobs.moderation.calibration import calibrate
from jobs.sdk.engine import Engine
from jobs.sdk.function import function_of
from jobs.sdk.functions import caption, moderate, translate

__all__ = ["Engine", "Job", "calibrate", "caption", "function_of", "moderate", "translate"]
