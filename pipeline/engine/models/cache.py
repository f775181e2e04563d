"""Decides where fetched and converted models lie on a machine, and that one process writes at once.

In `~/.cache/gemma3-batch/models` (`XDG_CACHE_HOME`), or in the folder `GEMMA3_BATCH_CACHE`. What is
in it can be deleted at any time between two runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pipeline.contract.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "GEMMA3_BATCH_CACHE"


def cache() -> Path:
    """The folder, which need not exist."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(VARIABLE) or Path(caches) / "gemma3-batch" / "models").absolute()


def tell(text: str) -> None:
    """Say on a terminal what takes long; others who read the standard error are told of faults."""
    if sys.stderr.isatty():
        print(f"gemma3-batch: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[IO[str]]:
    """Within the block no other process of this machine is in such a block for the folder.

    Args:
        folder: In our cache; made if it does not exist.

    Yields:
        The file that is locked. A process that it is passed to holds the lock for as long as it
        lives, also when this one is killed.

    Raises:
        UserError: The cache cannot be written to, or its disk is full, here or within the block.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{folder.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
    except OSError as error:
        if error.errno is None:  # not a disk's
            raise
        raise UserError(
            f"the cache of models, {folder}, cannot be written to ({error.strerror}); make room, "
            f"or name another folder in {VARIABLE}"
        ) from None
