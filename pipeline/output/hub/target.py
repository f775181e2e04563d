"""Decides which repository of the Hub is meant, who asks, and what its refusals mean to a user."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import RunError, UserError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from huggingface_hub import HfApi

    from pipeline.storage.location import StorageOptions

TARGET = re.compile(r"hf://datasets/(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<branch>[^@\s]+))?/?")
MAIN = "main"
TOKENS = "https://huggingface.co/settings/tokens"
CONFLICT, CHANGED = 409, 412
FIXES = {
    401: f"HF_TOKEN is not valid; make one at {TOKENS}",
    403: f"HF_TOKEN may not write there; make one that may at {TOKENS}",
    CONFLICT: "somebody else has changed it meanwhile; push again",
    CHANGED: "somebody else has changed it meanwhile; push again",
}
"""By the status of an answer."""
MISSING = "there is no such repository, or HF_TOKEN may not see it; check both"
BY_ERROR = {
    "GatedRepoError": "access to it is restricted; ask for access on its page",
    "DisabledRepoError": "it was disabled; see its page",
    "RepositoryNotFoundError": MISSING,
    "RevisionNotFoundError": "it has no such branch; check its name",
    "HFValidationError": "this is no name of a repository; it is owner/name",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set; unset it",
}
"""By the name of huggingface_hub's error, the more particular ones first."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A branch of a dataset repository.

    Attributes:
        repo: Owner and name.
        branch: The branch.
    """

    repo: str
    branch: str = MAIN

    def __str__(self) -> str:
        """As a user writes it."""
        return f"hf://datasets/{self.repo}" + (f"@{self.branch}" if self.branch != MAIN else "")


def target_of(uri: str) -> Target:
    """The repository that a URI names. Raises UserError."""
    found = TARGET.fullmatch(uri)
    if found is None:
        raise UserError(f"{uri}: should be hf://datasets/owner/name, or with @branch")
    return Target(repo=found["repo"], branch=found["branch"] or MAIN)


def hub(options: StorageOptions) -> HfApi:
    """What asks the Hub, with HF_TOKEN or the token of `hf auth login`.

    Args:
        options: Arguments of fsspec's filesystems; those of `hf` are the endpoint and the token.

    Raises:
        UserError: There is no token.
    """
    from huggingface_hub import HfApi, get_token

    own = options.get("hf", {})
    token = own.get("token") or get_token()
    if not token:
        raise UserError(f"HF_TOKEN is not set; make a token that may write at {TOKENS}")
    return HfApi(endpoint=own.get("endpoint"), token=token, library_name="gemma3-batch")


@contextlib.contextmanager
def naming(target: Target) -> Iterator[None]:
    """A block that asks the Hub.

    Raises:
        UserError: It refuses, in one line with what to do.
        RunError: It does not answer; the same command goes on.
    """
    try:
        yield
    except (UserError, RunError):
        raise
    except Exception as error:  # huggingface_hub's, its client's, a disk's
        fix = _fix_of(error)
        if fix is not None:
            raise UserError(f"{target}: {fix}") from error
        raise RunError(
            f"{target}: {one_line(error)}\nWhat is there stays; the same command uploads the rest."
        ) from error


def _fix_of(error: BaseException) -> str | None:
    """What to do about an error of the Hub; None if trying again may help."""
    names = [kind.__name__ for kind in type(error).__mro__]
    for name in names:
        if name in BY_ERROR:
            return BY_ERROR[name]
    response: Any = getattr(error, "response", None)
    return FIXES.get(getattr(response, "status_code", 0))
