"""Python imports this when a command of the tests starts: what that starts in turn is forked.

Two modules are changed when they are imported, so that commands that do without them start as fast
as ever.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

SOCKET = "TESTS_FORK_SERVER"
"""The environment variable that tells a client where the server listens."""
CLIENT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "client.py")


def _fork_workers(constants: Any) -> None:
    constants.SETUP_WORKER_FILENAME = CLIENT


def _fork_engines(module: Any) -> None:
    command, ours = module._command, module.MODULE

    def through_client(end: socket.socket) -> list[str]:
        if SOCKET not in os.environ or ours != module.MODULE:
            started: list[str] = command(end)
            return started
        return [sys.executable, "-P", CLIENT, "--engine", str(end.fileno())]

    module._command = through_client


CHANGES: dict[str, Callable[[ModuleType], None]] = {
    "ray._private.ray_constants": _fork_workers,
    "pipeline.engine.engine_process": _fork_engines,
}


class WhenImported:
    """Finds a module where it is, and changes it once it is loaded."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """See `importlib.abc.MetaPathFinder`."""
        change = CHANGES.pop(name, None)
        if change is None:
            return None
        from importlib.util import find_spec

        spec = find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_and_change(module: ModuleType) -> None:
            load(module)
            change(module)

        spec.loader.exec_module = load_and_change  # type: ignore[method-assign]
        return spec


def fork_processes() -> None:
    """From now on what this process starts is forked."""
    for name in CHANGES.keys() & sys.modules.keys():
        CHANGES.pop(name)(sys.modules[name])
    sys.meta_path.insert(0, WhenImported())  # type: ignore[arg-type]


if SOCKET in os.environ:
    fork_processes()
