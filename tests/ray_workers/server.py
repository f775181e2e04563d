"""Forks a worker for each client, from a template that has imported what workers need.

There is a template for each set of the variables that Ray reads when it is imported, and never
again: in practice one for each cluster.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

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
OF_A_WORKER = {"RAY_JOB_ID", "RAY_LD_PRELOAD_ON_WORKERS"}
"""Variables that no import reads (Ray 2.60)."""
HEAD = 8
"""Bytes of a message that say how long the rest is."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A worker that Ray asks for.

    Attributes:
        folder: Its working directory.
        command: The script and its options.
        variables: Its environment.
    """

    folder: str
    command: list[str]
    variables: dict[str, str]


def read_message(connection: socket.socket) -> tuple[bytes, list[int]]:
    """A message and the files that came with it; no bytes where the other side has closed."""
    head, files, _, _ = socket.recv_fds(connection, HEAD, 4)
    size, body = int.from_bytes(head, "big"), b""
    while len(body) < size and (piece := connection.recv(size - len(body))):
        body += piece
    return body if len(body) == size else b"", files


def wanted(body: bytes) -> Wanted:
    """What a client's message asks for."""
    folder, options, variables = json.loads(body)
    command = []
    for option in options:
        name, _, value = option.partition("=")
        if name == "--serialized-runtime-env-context":
            variables |= json.loads(value)["env_vars"]
        elif name != "--language":
            command.append(option)
    return Wanted(folder=folder, command=command, variables=variables)


def become(worker: Wanted, streams: list[int]) -> None:
    """Be the worker until it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(worker.folder)
    os.environ.clear()
    os.environ.update(worker.variables)
    sys.modules["ray._raylet"].Config.initialize("{}")  # reads Ray's variables again
    script = worker.command[0]
    sys.argv = worker.command
    python_path = worker.variables.get("PYTHONPATH", "").split(os.pathsep)
    own = [folder for folder in python_path if folder and folder not in sys.path]
    sys.path[:0] = [str(Path(script).parent), *own]
    runpy.run_path(script, run_name="__main__")


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


def read_by_imports(variables: dict[str, str]) -> frozenset[tuple[str, str]]:
    """The variables that Ray reads once; its C++ part reads those in small letters again."""
    names = {name for name in variables if name.startswith("RAY_") and name.isupper()}
    return frozenset((name, variables[name]) for name in names - OF_A_WORKER)


def be_template(variables: dict[str, str], requests: socket.socket) -> None:
    """Import what workers need, and fork one for each request, until there can be none."""
    os.environ.update(variables)
    import_needed()
    assert not sys.modules.keys() & {"torch", "vllm"}, "they read a worker's own environment"
    gc.collect()
    gc.freeze()
    while (message := read_message(requests))[0]:
        body, (*streams, connection) = message
        if os.fork() == 0:
            requests.close()
            become(wanted(body), streams)  # the connection is open as long as it lives
            return
        for file in (*streams, connection):
            os.close(file)


def serve(listener: socket.socket) -> None:
    """Pass what clients ask for to the right template, until standard input ends."""
    templates: dict[frozenset[tuple[str, str]], socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while sys.stdin not in {key.fileobj for key, _ in selector.select()}:
            client, _ = listener.accept()
            body, streams = read_message(client)
            if not body:  # it was killed meanwhile
                client.close()
                continue
            variables = wanted(body).variables
            kind = read_by_imports(variables)
            if kind not in templates:
                requests, templates[kind] = socket.socketpair()
                if os.fork() == 0:
                    for mine in (listener, client, *templates.values()):
                        mine.close()
                    be_template(variables, requests)
                    return
                requests.close()
            files = [*streams, client.fileno()]
            socket.send_fds(templates[kind], [len(body).to_bytes(HEAD, "big")], files)
            templates[kind].sendall(body)
            client.close()
            for stream in streams:
                os.close(stream)


def main() -> None:
    """Listen where the first argument says."""
    sys.path.pop(0)  # the folder of `-m`: a worker has its script's there
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # what ended leaves nothing to wait for
        print("ready", flush=True)
        serve(listener)


if __name__ == "__main__":
    main()
