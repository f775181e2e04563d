"""Which libraries an engine's process on a CPU loads before all others.

torch's OpenMP, without which threads that are bound to cores share one of them (vLLM's issue
27369), and the allocator that vLLM brings along. vLLM (0.32) sets both for the processes that it
starts; ours runs the model itself. Can go when torch's issue 166087 is fixed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VARIABLE = "LD_PRELOAD"
PLACES = {
    "libtcmalloc": ("vllm", ("libs",)),
    "libgomp": ("torch", ("../torch.libs", "lib")),
}
"""The package that brings a library, and its folders there."""


def preloaded(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which a process that runs torch for CPUs starts well.

    Args:
        environment: As it is. What it preloads already stays, and stays first.
    """
    if not _runs_on_cpus():
        return {**environment}
    loaded = environment.get(VARIABLE, "")
    missing = [path for name in PLACES if name not in loaded for path in _found(name)]
    return {**environment, VARIABLE: ":".join(filter(None, [loaded, *missing]))}


def _runs_on_cpus() -> bool:
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return False


def _found(name: str) -> Iterator[str]:
    """The library's path, if its package has it."""
    package, folders = PLACES[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return
    root = Path(spec.origin).parent
    found = (path for folder in folders for path in sorted((root / folder).glob(f"{name}*.so*")))
    yield from (str(path.resolve()) for path in [*found][:1])
