"""The three jobs as Python functions; each is also a command of `gemma3-batch`.

    captioning, translation, moderation   one package a job: its options, task and result columns
    job, registry                         what a job is, and how a name leads to one
    options                               what the options of all jobs have in common
    sdk, cli                              the jobs from Python, and from the command line
    demo                                  the bundled model and the drawings it was trained on

Importing this package imports neither torch, vllm nor ray.
"""

from jobs.moderation.calibration import calibrate
from jobs.options.job import Job
from jobs.sdk.engine import Engine
from jobs.sdk.function import function_of
from jobs.sdk.functions import caption, moderate, translate
from pipeline.output.hub.push import push

__all__ = [
    "Engine",
    "Job",
    "calibrate",
    "caption",
    "function_of",
    "moderate",
    "push",
    "translate",
]
