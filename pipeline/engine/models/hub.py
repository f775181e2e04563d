"""A model on the Hugging Face Hub: `OWNER/NAME`, `OWNER/NAME@REVISION`, `hf://OWNER/NAME`.

Decides which commit a name is, and what is said where it cannot be had. The files lie in the hub's
own cache (`HF_HOME`), where other programs find and leave them; `huggingface_hub` downloads each
once, whole or not at all, also from several processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import UserError, one_line
from pipeline.engine.models.cache import cache, locked
from pipeline.engine.models.needed_files import INDEX, left_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.storage.location import StorageOptions

SCHEME = "hf://"
NAME = re.compile(r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
PAGE = "https://huggingface.co/"
ANSWER_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A repository at a revision.

    Attributes:
        id: `OWNER/NAME`.
        revision: A commit, a branch or a tag; None for the newest.
        name: As the user wrote it, for messages.
    """

    id: str
    revision: str | None
    name: str

    @classmethod
    def parse(cls, name: str) -> HubModel | None:
        """The model of a name that may be one of the hub; None if it cannot be.

        Raises:
            UserError: It is a URI of something else on the hub.
        """
        path = name.removeprefix(SCHEME)
        found = NAME.fullmatch(path)
        if found is None and path != name:
            raise UserError(
                f"model {name}: should be {SCHEME}OWNER/NAME or {SCHEME}OWNER/NAME@REVISION"
            )
        return found and cls(id=found["id"], revision=found["revision"], name=name)

    @property
    def is_pinned(self) -> bool:
        """Whether it means the same files for ever."""
        return bool(self.revision and COMMIT.fullmatch(self.revision))

    def pinned(self, options: StorageOptions) -> str:
        """The name of the commit that the revision is now.

        Where the hub cannot be reached, of the one that was downloaded last.

        Raises:
            UserError: There is no such model, it is not for us, or nobody answers.
        """
        if self.is_pinned:
            return f"{SCHEME}{self.id}@{self.revision}"
        try:
            commit = (
                _api(options)
                .model_info(self.id, revision=self.revision, timeout=ANSWER_SECONDS)
                .sha
            )
        except Exception as error:  # the client has errors of many kinds, and those of httpx
            commit = self._downloaded() if _is_unreachable(error) else None
            if commit is None:
                raise self._refused(error) from None
        else:
            self._note(commit)
        return f"{SCHEME}{self.id}@{commit}"

    def folder(self, *, weights: bool = True) -> Path | None:
        """The folder of a pinned model on this machine; None where files are missing."""
        from huggingface_hub import snapshot_download

        try:
            found = Path(
                snapshot_download(
                    self.id,
                    revision=self.revision,
                    ignore_patterns=[*left_out(weights=weights)],
                    local_files_only=True,
                )
            )
        except OSError:  # `LocalEntryNotFoundError`, and what a damaged cache gives
            return None
        return found if self._is_listed() or _is_whole(found, weights=weights) else None

    def _is_listed(self) -> bool:
        """Whether the cache knows which files there are, so that `snapshot_download` looked.

        It does not where others downloaded single files, as `AutoTokenizer` does (2.4).
        """
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        try:
            return bool(get_cached_repo_tree(self.id, revision=self.revision))
        except CachedRepoTreeNotFoundError:
            return False

    def fetch(self, options: StorageOptions, *, weights: bool) -> None:
        """Download what of a pinned model is not here yet.

        Raises:
            UserError: It cannot be had.
        """
        with locked(self._own_folder()):
            if self.folder(weights=weights) is not None:
                return
            try:
                with _bars_on_a_terminal():
                    _api(options).snapshot_download(
                        self.id,
                        revision=self.revision,
                        ignore_patterns=[*left_out(weights=weights)],
                    )
            except Exception as error:  # as above
                raise self._refused(error) from None

    def _own_folder(self) -> Path:
        return cache() / "hub" / self.id.replace("/", "--")

    def _noted(self) -> Path:
        """Where it is noted which commit the revision was; the hub's cache knows only some."""
        return self._own_folder() / (self.revision or "@newest").replace("/", "--")

    def _note(self, commit: str) -> None:
        with locked(self._own_folder()):
            draft = self._noted().with_suffix(".draft")
            draft.write_text(commit)
            os.replace(draft, self._noted())

    def _downloaded(self) -> str | None:
        """The commit of the revision that was looked up last, or that others downloaded."""
        if self._noted().exists():
            return self._noted().read_text()
        folder = self.folder()
        return folder.name if folder is not None and COMMIT.fullmatch(folder.name) else None

    def _refused(self, error: Exception) -> UserError:
        """What to say of the client's error."""
        from huggingface_hub import errors

        page = f"{PAGE}{self.id}"
        if isinstance(error, errors.GatedRepoError):
            why = f"is gated: accept its licence at {page}, and set HF_TOKEN to your token"
        elif isinstance(error, errors.RepositoryNotFoundError | errors.DisabledRepoError):
            why = (
                "is no folder here, and no model on the hub that is shown to everybody; correct "
                f"the name, or accept its licence at {page} and set HF_TOKEN"
            )
        elif isinstance(error, errors.RevisionNotFoundError):
            why = f"has no revision '{self.revision}' at {page}"
        elif _is_unreachable(error):
            why = (
                f"the hub cannot be reached ({one_line(error, 120)}), and it was not downloaded "
                "before; check the network and HF_ENDPOINT, or name a folder"
            )
        else:
            why = f"cannot be downloaded from {page}: {one_line(error)}"
        return UserError(f"model {self.name}: {why}")


def _is_whole(folder: Path, *, weights: bool) -> bool:
    """Whether the files that no model does without are in a folder."""
    has = {path.name for path in folder.iterdir()}
    if "config.json" not in has or has.isdisjoint(("tokenizer.json", "tokenizer.model")):
        return False
    if not weights:
        return True
    if INDEX not in has:
        return any(name.endswith(".safetensors") for name in has)
    try:
        named = json.loads((folder / INDEX).read_text())["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    return has.issuperset(named)


def _api(options: StorageOptions) -> Any:
    from huggingface_hub import HfApi

    own = options.get("hf", {})
    return HfApi(endpoint=own.get("endpoint"), token=own.get("token"))


@contextlib.contextmanager
def _bars_on_a_terminal() -> Iterator[None]:
    """The client's progress bars are shown on a terminal alone; a file would be full of them."""
    from huggingface_hub import utils

    bars: Any = utils
    if sys.stderr.isatty() or bars.are_progress_bars_disabled():
        yield
        return
    bars.disable_progress_bars()
    try:
        yield
    finally:
        bars.enable_progress_bars()


def _is_unreachable(error: Exception) -> bool:
    """Whether nobody answered, or was asked (`HF_HUB_OFFLINE`), or answered for the hub."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(status, int) and status:
        return status >= 500  # noqa: PLR2004  the server's own errors
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(
        isinstance(error, ConnectionError | TimeoutError)
        or kinds & {"TransportError", "LocalEntryNotFoundError"}
    )
