"""Passes what clients ask for to a template that has imported what is needed, and forks.

There is a template for each set of the variables that Ray, or torch and vLLM, read when they are
imported, and never again: of Ray's in practice one for each cluster.
"""

from __future__ import annotations

import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.forking.messages import Wanted, read_message, send_message, wanted

OF_A_WORKER = {"RAY_JOB_ID", "RAY_LD_PRELOAD_ON_WORKERS"}
"""Variables that no import reads (Ray 2.60)."""
OF_ENGINES = ("VLLM", "TORCH", "OMP", "LD_", "HF_", "TRANSFORMERS_", "MKL_", "CUDA_")
"""How the names of variables begin that torch, transformers or vLLM may read when imported."""
ROOT = Path(__file__).parents[2]

Kind = tuple[bool, frozenset[tuple[str, str]]]
"""Whether it forks engines, and the variables that it was started with."""


def kind_of(asked: Wanted) -> Kind:
    """Which template forks it."""
    variables = asked.variables
    if asked.is_engine:
        names = {name for name in variables if name.startswith(OF_ENGINES)}
    else:  # Ray's C++ part reads those in small letters again
        names = {name for name in variables if name.startswith("RAY_") and name.isupper()}
        names -= OF_A_WORKER
    return asked.is_engine, frozenset((name, variables[name]) for name in names)


def start_template(asked: Wanted) -> socket.socket:
    """Start a template with the variables of the first that it forks; gives where to ask it."""
    module = "engine_template" if asked.is_engine else "ray_template"
    requests, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", f"tests.forking.{module}", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**asked.variables, "OPENBLAS_NUM_THREADS": "1"},
            cwd=ROOT,
        )
    return requests


def serve(listener: socket.socket) -> None:
    """Pass what clients ask for to the right template, until standard input ends."""
    templates: dict[Kind, socket.socket] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while sys.stdin not in {key.fileobj for key, _ in selector.select()}:
            client, _ = listener.accept()
            body, files = read_message(client)
            if not body:  # it was killed meanwhile
                client.close()
                continue
            asked = wanted(body)
            kind = kind_of(asked)
            if kind not in templates:
                templates[kind] = start_template(asked)
            send_message(templates[kind], body, [*files, client.detach()])


def main() -> None:
    """Listen where the first argument says."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # what ended leaves nothing to wait for
        print("ready", flush=True)
        serve(listener)


if __name__ == "__main__":
    main()
