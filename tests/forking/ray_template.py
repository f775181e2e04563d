"""Has imported what Ray's workers need, and forks them."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from pathlib import Path
from socket import socket
from unittest import mock

from tests.forking.messages import Wanted
from tests.forking.process import serve, take_on

NEEDED = (
    "ray._private.workers",
    "ray.data._internal.execution.operators.actor_pool_map_operator",
    "ray.data._internal.planner.plan_udf_map_op",
    "ray.data._internal.issue_detection",
    "ray.autoscaler.sdk",
    "ray._common.pydantic_compat",
    "ray._private.arrow_serialization",
    "starlette.datastructures",
    "pandas",
    "pyarrow.parquet",
    "PIL.Image",
    "pipeline.execution.commits",
    "pipeline.execution.dataflow",
    "pipeline.stages.read",
    "pipeline.stages.render",
    "pipeline.stages.parse",
)
"""What most workers import. Neither torch nor vLLM: they read the environment when imported."""


def import_needed() -> None:
    """Import what workers need, and leave Ray's random numbers unused.

    They are seeded when they are first used; what was forked after that would draw the same ones,
    and two workers would make objects of the same name. Ray Data (2.60) uses them when imported,
    for the names of its actors' classes.
    """
    from ray import ActorClassID, actor

    class FromPython:
        @staticmethod
        def from_random() -> ActorClassID:
            return ActorClassID(os.urandom(ActorClassID.size()))

    with mock.patch.object(actor, "ActorClassID", FromPython):
        for module in NEEDED:
            importlib.import_module(module)
    assert not sys.modules.keys() & {"torch", "vllm"}, "they read a worker's own environment"


def be_worker(asked: Wanted, streams: list[int], _connection: int) -> None:
    """Be the worker until it ends."""
    own = take_on(asked, streams)
    sys.modules["ray._raylet"].Config.initialize("{}")  # reads Ray's variables again
    script = asked.command[0]
    sys.argv = asked.command
    sys.path[:0] = [str(Path(script).parent), *own]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    import_needed()
    serve(socket(fileno=int(sys.argv[1])), be_worker)
