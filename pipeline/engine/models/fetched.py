"""From what a user names as a model to its files on this machine.

Whoever needs a model's files calls `fetched` first: the driver with the name that the user gave,
for which a commit or a listing is looked up, once; every other process with the name that came out,
which says which commit or listing. So each machine fetches for itself, and all have the same.
`folder_of` never fetches.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.engine.models.gguf import GgufFile
from pipeline.engine.models.hub import SCHEME, HubModel
from pipeline.engine.models.store import StoreModel

if TYPE_CHECKING:
    from pipeline.storage.location import StorageOptions


class Remote(Protocol):
    """A model whose files are not where its name is."""

    @property
    def is_pinned(self) -> bool:
        """Whether the name means the same files for ever."""
        ...

    def pinned(self, options: StorageOptions) -> str:
        """A name of what it is now, which does. Raises UserError."""
        ...

    def folder(self, *, weights: bool = True) -> Path | None:
        """Its folder on this machine; None where files are missing. Only of a pinned one."""
        ...

    def fetch(self, options: StorageOptions, *, weights: bool) -> None:
        """Bring what is missing to this machine. Only of a pinned one. Raises UserError."""
        ...


def fetched(model: str, options: StorageOptions | None = None, *, weights: bool = True) -> str:
    """Bring a model's files to this machine, unless they are here.

    Args:
        model: As a user names it, or as this returned it.
        options: Arguments of the stores' filesystems, by protocol.
        weights: Whether the weights are needed too.

    Returns:
        The name by which every machine finds the same files: for a folder the name itself, for
        others one with a commit or a listing.

    Raises:
        UserError: It cannot be had.
    """
    remote = _remote(model)
    if remote is None:
        return model
    name = remote.pinned(options or {})
    pinned = _remote(name)
    assert pinned is not None, "a name that was pinned is one of the same kind"
    if pinned.folder(weights=weights) is None:
        pinned.fetch(options or {}, weights=weights)
    return name


def is_fetched(model: str) -> bool:
    """Whether a model's files are not where its name is, and so on every machine."""
    return _remote(model) is not None


def is_here(model: str) -> bool:
    """Whether a model, as `fetched` named it, needs no fetching on this machine."""
    remote = _remote(model)
    return remote is None or (remote.is_pinned and remote.folder() is not None)


def folder_of(model: str) -> Path | None:
    """The folder of a model that was fetched; None for one that need not be, or was not.

    Raises:
        UserError: The name cannot be one.
    """
    remote = _remote(model)
    if remote is None or not remote.is_pinned:
        return None
    return remote.folder() or remote.folder(weights=False)


KINDS: tuple[Callable[[str], Remote | None], ...] = (
    GgufFile.parse,
    lambda name: HubModel.parse(name) if name.startswith(SCHEME) else None,
    StoreModel.parse,
    HubModel.parse,
)
"""What a name is tried for, in this order, unless there is a folder of that name."""


def _remote(model: str) -> Remote | None:
    """The model of a name; None for a folder's and for what comes with this distribution."""
    if Path(model).expanduser().is_dir() and not model.startswith(SCHEME):
        return None
    return next(filter(None, (kind(model) for kind in KINDS)), None)
