"""Decides which commit of a Hugging Face repository is read, and what to do where the Hub refuses.

A branch moves. What reads a repository for hours, in many processes, reads one commit of it: the
revision of a path (`hf://datasets/owner/name@v2/train`), `main` without one, is resolved once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.storage.backoff import with_backoff
from pipeline.storage.location import Location
from pipeline.storage.refusals import causes

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "set HF_TOKEN to a token that may read it"  # noqa: S105  # the name of one


def is_on_hub(where: Location) -> bool:
    """Whether it is in a repository or a bucket on the Hub."""
    return "hf" in where.fs.protocol


def at_commit(where: Location, commit: str | None = None) -> tuple[Location, str | None]:
    """A location in a repository at one commit.

    Args:
        where: A location on any store.
        commit: The commit to take where the repository still has it, whatever its path says.

    Returns:
        The location, and the commit; the same location and None where it is in no repository.

    Raises:
        FileNotFoundError: There is no such repository or revision.
        OSError: The Hub cannot be asked.
    """
    if not is_on_hub(where):
        return where, None
    where.fs.invalidate_cache()  # it remembers what was not there
    found = with_backoff(lambda: where.fs.resolve_path(where.path))
    if not hasattr(found, "repo_id"):  # a bucket
        return where, None
    sha = _known(where.fs, found, commit) or _commit(where.fs, found, found.revision)
    root = f"{_prefix(found.repo_type)}{found.repo_id}@{sha}"
    return Location(where.fs, f"{root}/{found.path_in_repo}".rstrip("/")), sha


def dataset_of(where: Location) -> str | None:
    """The dataset whose whole repository this is, as `owner/name`; None for any other location."""
    if not is_on_hub(where):
        return None
    kind, *parts = where.path.strip("/").split("/")
    is_whole = kind == "datasets" and len(parts) == 2  # noqa: PLR2004  # owner and name
    return "/".join(parts).partition("@")[0] if is_whole else None


def hub_fault(error: BaseException, where: Location) -> str | None:
    """Why the Hub refuses a repository, and what to do; None for any other error.

    It follows the repository's name: "does not exist, or is private: ...".

    Args:
        error: What was raised.
        where: A location in the repository.
    """
    if not is_on_hub(where):
        return None
    names = {kind.__name__ for cause in causes(error) for kind in type(cause).__mro__}
    if "GatedRepoError" in names:
        return f"is gated: accept its terms at {_page(where)}, and {TOKEN}"
    if "DisabledRepoError" in names:
        return f"is disabled: see {_page(where)}"
    if "RepositoryNotFoundError" in names:
        return f"does not exist, or is private: check its name, or {TOKEN}"
    if "RevisionNotFoundError" in names:
        return f"has no such revision: see {_page(where)}/tree/main"
    return None


def _page(where: Location) -> str:
    """Where people look at the repository, and accept its terms."""
    parts = where.path.strip("/").split("/")
    depth = 3 if parts[0] in ("datasets", "spaces") else 2
    return f"{where.fs.endpoint}/{'/'.join(parts[:depth]).partition('@')[0]}"


def _known(fs: Any, found: Any, commit: str | None) -> str | None:
    """The commit, if the repository has it: a history may have been squashed."""
    from huggingface_hub.errors import RevisionNotFoundError

    if commit is None:
        return None
    try:
        return _commit(fs, found, commit)
    except RevisionNotFoundError:
        return None


def _commit(fs: Any, found: Any, revision: str) -> str:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=fs.endpoint, token=fs.token)
    ask: Callable[[], Any] = lambda: api.repo_info(  # noqa: E731
        found.repo_id, revision=revision, repo_type=found.repo_type
    )
    return str(with_backoff(ask).sha)


def _prefix(repo_type: str) -> str:
    from huggingface_hub import constants

    return str(constants.REPO_TYPES_URL_PREFIXES.get(repo_type, ""))
