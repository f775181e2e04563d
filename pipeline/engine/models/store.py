"""A model in a folder of an object store: `s3://`, `gs://`.

Decides which files it is, by their names, sizes and the store's own stamps, and how they come to
this machine: file by file, each whole or not at all, into a folder of our cache that is named after
them. A model that is written anew in the store is another one.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.contract.errors import UserError, one_line
from pipeline.engine.models.cache import cache, locked, tell
from pipeline.engine.models.needed_files import is_needed
from pipeline.storage.access import access_fault, check_access
from pipeline.storage.backoff import with_backoff
from pipeline.storage.location import locate
from pipeline.storage.parallel import in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.storage.location import FileInfo, Location, StorageOptions

PINNED = re.compile(r"(?P<uri>.+)#(?P<digest>[0-9a-f]{16})")
"""How the name of a model ends whose files are known."""
DRAFT = ".draft-"
CONFIGS = ("config.json", "adapter_config.json")
"""What a model's folder has, or a LoRA adapter's."""


@dataclass(frozen=True, kw_only=True)
class StoreModel:
    """A folder in a store.

    Attributes:
        uri: The folder.
        digest: Of the listing of its files; None where it has not been listed.
    """

    uri: str
    digest: str | None = None

    @classmethod
    def parse(cls, name: str) -> StoreModel | None:
        """The model of a URI; None if it is none."""
        if "://" not in name or name.startswith(("file://", "local://")):
            return None
        if found := PINNED.fullmatch(name):
            return cls(uri=found["uri"], digest=found["digest"])
        return cls(uri=name)

    @property
    def is_pinned(self) -> bool:
        """Whether it means the same files for ever."""
        return self.digest is not None

    def pinned(self, options: StorageOptions) -> str:
        """The name of what is in the folder now.

        Raises:
            UserError: The store does not answer or does not let us in, or has no such folder.
        """
        if self.is_pinned:
            return f"{self.uri}#{self.digest}"
        return f"{self.uri}#{_digest(self._listed(options))}"

    def folder(self, *, weights: bool = True) -> Path | None:
        """The folder of a pinned model on this machine; None where files are missing."""
        path = self._path()
        return path if (path / _mark(weights=weights)).exists() else None

    def fetch(self, options: StorageOptions, *, weights: bool) -> None:
        """Download what of a pinned model is not here yet.

        Raises:
            UserError: It cannot be had, or is not what it was.
        """
        path = self._path()
        with locked(path):
            if self.folder(weights=weights) is not None:
                return
            for left in path.glob(f"{DRAFT}*"):
                left.unlink()
            found = self._listed(options)
            if _digest(found) != self.digest:
                raise UserError(
                    f"model {self.uri} has changed since the run began; give the command again"
                )
            self._download(options, [i for i in found if is_needed(i.path, weights=weights)])
            for kind in {weights, False}:
                (path / _mark(weights=kind)).touch()

    def _download(self, options: StorageOptions, files: Sequence[FileInfo]) -> None:
        """Fetch those of the files that are not here yet. Raises UserError."""
        folder, path = locate(self.uri, options), self._path()
        missing = [info for info in files if not _is_there(path, info)]
        size = sum(info.size for info in missing)
        tell(f"fetching {len(missing)} files of {self.uri} ({size / 1e9:.1f} GB)")
        try:
            for _ in in_order(lambda info: _download(folder, info, path), missing):
                pass
        except Exception as error:  # the stores' clients have errors of many kinds
            fix = access_fault(error) or "give the command again"
            raise UserError(f"model {self.uri}: {one_line(error)}; {fix}") from error

    def _path(self) -> Path:
        assert self.digest is not None, "only what is pinned has a folder"
        name = re.sub(r"[^\w.-]+", "-", self.uri.rstrip("/").rpartition("/")[2])
        return cache() / "store" / f"{name}-{self.digest}"

    def _listed(self, options: StorageOptions) -> Sequence[FileInfo]:
        where = locate(self.uri, options)
        if "https" in where.fs.protocol:
            raise UserError(
                f"model {self.uri}: a model is a folder, which https:// has not; use s3://, gs:// "
                "or the hub's OWNER/NAME"
            )
        check_access(where, "model")
        try:
            found = sorted(where.infos(), key=lambda info: info.path)
        except OSError as error:
            raise UserError(f"model {self.uri}: cannot be listed ({one_line(error)})") from None
        needed = [info for info in found if is_needed(info.path, weights=True)]
        if not any(info.path in CONFIGS for info in needed):
            raise UserError(f"model {self.uri} has no config.json; is it a checkpoint's folder?")
        return needed


def _mark(*, weights: bool) -> str:
    """The file that says that all of a folder is there. Hidden: it is no part of the model."""
    return ".complete" if weights else ".complete-but-weights"


def _digest(files: Sequence[FileInfo]) -> str:
    listed = "".join(f"{info.path} {info.size} {info.stamp}\n" for info in files)
    return hashlib.sha256(listed.encode()).hexdigest()[:16]


def _is_there(path: Path, info: FileInfo) -> bool:
    file = path / info.path
    return file.exists() and file.stat().st_size == info.size


def _download(folder: Location, info: FileInfo, path: Path) -> None:
    """Fetch one file, whole or not at all. Raises OSError and what the store's client raises."""
    draft = path / f"{DRAFT}{uuid.uuid4().hex}"
    file = folder / info.path
    with_backoff(lambda: file.fs.get_file(file.path, str(draft)))
    if draft.stat().st_size != info.size:
        raise OSError(f"{info.path} has {draft.stat().st_size} bytes in the place of {info.size}")
    os.replace(draft, path / info.path)
