"""Decides which faults are a store's rather than those of one file in it.

    credentials    they are missing, unknown, wrong or expired: no file can be read
    denied         403, no such bucket, repository or host: no file, or only this one; S3 answers
                   403 for a key that does not exist where the keys may not be listed
    unreachable    still no answer after the last try: no file can be read for now

Whoever reads many files knows whether others of the same store could be read.
"""

from __future__ import annotations

import errno
import socket
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeline.storage.backoff import is_transient

if TYPE_CHECKING:
    from collections.abc import Iterator


class Refusal(StrEnum):
    """How a store refuses."""

    CREDENTIALS = "credentials"
    DENIED = "denied"
    UNREACHABLE = "unreachable"

    @property
    def fix(self) -> str:
        """What to do about it, as an imperative."""
        return _FIXES[self]


_FIXES = {
    Refusal.CREDENTIALS: "give valid credentials",
    Refusal.DENIED: "check its name, the endpoint and the permissions",
    Refusal.UNREACHABLE: "check the endpoint and the network",
}

UNAUTHORIZED = 401
FORBIDDEN = 403
CREDENTIAL_CODES = frozenset(
    {
        "AccountProblem",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidToken",
        "NotSignedUp",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
        "AuthenticationFailed",  # these three are Azure's
        "InvalidAuthenticationInfo",
        "NoAuthenticationInformation",
    }
)
"""Error codes of S3, of what gives out its credentials, and of Azure."""
CREDENTIAL_NAMES = frozenset(
    {
        "CredentialRetrievalError",
        "LoginTokenLoadError",
        "NoAuthTokenError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "SSOError",
        "TokenRetrievalError",
        "DefaultCredentialsError",  # these two are google.auth's
        "RefreshError",
        "CredentialUnavailableError",  # azure.identity's
    }
)
DENIED_CODES = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",  # another region's bucket, as are the redirects
        "InvalidBucketName",
        "InvalidPayer",
        "NoSuchBucket",
        "PermanentRedirect",
        "301",
        "ContainerNotFound",  # Azure's
    }
)
DENIED_NAMES = frozenset({"DisabledRepoError", "GatedRepoError", "RepositoryNotFoundError"})
"""Of the Hugging Face Hub, which answers 401 for a repository that does not exist."""
LOST_MOUNT = frozenset({errno.EIO, errno.ENODEV, errno.ENOTCONN, errno.ESHUTDOWN, errno.ESTALE})
"""What a disk answers that is gone: a network's, or a bucket that is mounted."""


def refusal_of(error: BaseException, *, is_local: bool = False) -> Refusal | None:
    """How the store refuses, by the error of reading one file; None if the fault is the file's.

    Args:
        error: What was raised, after all tries.
        is_local: Whether the store is a disk, on which each file has permissions of its own.
    """
    if is_local:
        is_lost = isinstance(error, OSError) and error.errno in LOST_MOUNT
        return Refusal.UNREACHABLE if is_lost else None
    chain = [*causes(error)]
    names = {kind.__name__ for cause in chain for kind in type(cause).__mro__}
    answers = [_answer(cause) for cause in chain]
    codes = {code for code, _ in answers}
    statuses = {status for _, status in answers}
    if names & DENIED_NAMES:
        return Refusal.DENIED
    if codes & CREDENTIAL_CODES or names & CREDENTIAL_NAMES or UNAUTHORIZED in statuses:
        return Refusal.CREDENTIALS
    if codes & DENIED_CODES or FORBIDDEN in statuses or isinstance(error, PermissionError):
        return Refusal.DENIED
    if any(map(_is_unknown_host, chain)) or str(error).startswith("Forbidden: "):  # gcsfs' 403
        return Refusal.DENIED
    return Refusal.UNREACHABLE if is_transient(error) else None


def code_of(error: BaseException) -> str:
    """The code of S3's or Azure's answer that an error was raised from; empty without one."""
    return next((code for code, _ in map(_answer, causes(error)) if code), "")


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _answer(error: BaseException) -> tuple[str, int]:
    """The code and the HTTP status of a store's answer; empty and 0 where it is none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's
        code = str(response.get("Error", {}).get("Code", ""))
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code, status if isinstance(status, int) else 0
    named = getattr(error, "error_code", None)  # Azure's, an enumeration of texts
    found = (
        getattr(response, "status_code", 0),
        *(getattr(error, n, 0) for n in ("code", "status")),
    )
    status = next((status for status in found if isinstance(status, int) and status), 0)
    return str(getattr(named, "value", named) or ""), status


def _is_unknown_host(error: BaseException) -> bool:
    return isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN
