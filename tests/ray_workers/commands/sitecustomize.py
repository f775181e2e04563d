"""Python imports this when a command of the tests starts: the command's Ray forks its workers.

Ray is changed when it is imported, so that commands that do without it start as fast as ever.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

CONSTANTS = "ray._private.ray_constants"
CLIENT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "client.py")


class WhenImported:
    """Finds Ray's constants where they are, and changes one once they are loaded."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """See `importlib.abc.MetaPathFinder`."""
        if name != CONSTANTS:
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)  # type: ignore[arg-type]
        spec = find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_and_change(module: ModuleType) -> None:
            load(module)
            module.SETUP_WORKER_FILENAME = CLIENT  # type: ignore[attr-defined]

        spec.loader.exec_module = load_and_change  # type: ignore[method-assign]
        return spec


def fork_workers() -> None:
    """From now on clusters that this process starts fork their workers."""
    if CONSTANTS in sys.modules:
        sys.modules[CONSTANTS].SETUP_WORKER_FILENAME = CLIENT  # type: ignore[attr-defined]
    else:
        sys.meta_path.insert(0, WhenImported())  # type: ignore[arg-type]


if "TESTS_FORK_SERVER" in os.environ:
    fork_workers()
