"""The functions of the jobs that come with the package; `functions.pyi` has their signatures."""

from jobs.registry import JOBS
from jobs.sdk.function import function_of

caption = function_of(JOBS["caption"])
translate = function_of(JOBS["translate"])
moderate = function_of(JOBS["moderate"])
