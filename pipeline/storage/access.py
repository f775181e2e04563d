"""Decides whether a store lets us in, before anything starts, and says what to mend if it does not.

An address where nobody answers, missing or expired credentials, a denied or missing bucket: the
clients' own errors come after minutes of attempts, or name neither the store nor the fix.
"""

from __future__ import annotations

import errno
import functools
import socket
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.contract.errors import UserError, one_line
from pipeline.storage.backoff import with_backoff

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.storage.location import Location

CONNECT_SECONDS = 4.0
EXPIRED = "the credentials have expired; get new ones"
WRONG = "the store does not accept the credentials; correct them"
NONE = "there are no credentials; set the store's environment variables, or storage_options"
DENIED = "access is denied; use credentials that may list, read and write it"
NO_BUCKET = "there is no such bucket; create it, or correct the name"
BY_CODE = {
    **dict.fromkeys(("ExpiredToken", "RequestExpired", "TokenRefreshRequired"), EXPIRED),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"), WRONG),
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "403", "Forbidden"), DENIED),
    "NoSuchBucket": NO_BUCKET,
}
"""By the codes of S3."""
BY_NAME = {
    **dict.fromkeys(("NoCredentialsError", "PartialCredentialsError"), NONE),
    **dict.fromkeys(("DefaultCredentialsError", "NoAuthTokenError"), NONE),
    **dict.fromkeys(("RefreshError", "SSOError", "TokenRetrievalError"), EXPIRED),
    **dict.fromkeys(("RepositoryNotFoundError", "GatedRepoError"), DENIED),
}
"""By the names of errors of botocore, google.auth and huggingface_hub, which are not imported."""
BY_STATUS = {401: WRONG, 403: DENIED}
BY_ERRNO = {
    errno.ENOSPC: "the disk is full; make room, or name another disk",
    errno.EDQUOT: "the disk's quota is used up; make room, or name another disk",
    errno.EROFS: "the disk is read-only; name another one",
    errno.EACCES: "permission is denied; change it, or name another folder",
    errno.EPERM: "permission is denied; change it, or name another folder",
}


def check_access(where: Location, what: str) -> None:
    """Check that a store answers and may be asked. A disk is not looked at.

    Args:
        where: A file or folder, which need not exist.
        what: What a message calls it: INPUT, say.

    Raises:
        UserError: The store does not answer, does not let us in, or has no such bucket.
    """
    if where.is_local:
        return
    if not where.path.strip("/"):
        raise UserError(f"{what} {where}: names no bucket")
    try:
        fault = _unreachable(_endpoint(where)) or _asked(where)
    except Exception as error:  # the stores' clients have errors of many kinds
        fault = access_fault(error) or f"it cannot be read: {one_line(error)}"
    if fault:
        raise UserError(f"{what} {where}: {fault}")


def access_fault(error: BaseException) -> str | None:
    """What is wrong with the access to a store or a disk, with the fix; None for other errors."""
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):  # botocore's
            code = str(response.get("Error", {}).get("Code"))
            if code in BY_CODE:
                return f"{BY_CODE[code]} ({code})"
        for kind in type(cause).__mro__:
            if kind.__name__ in BY_NAME:
                return BY_NAME[kind.__name__]
        status = getattr(response, "status_code", None) or getattr(cause, "code", None)
        if status in BY_STATUS:
            return f"{BY_STATUS[status]} ({status})"
    if isinstance(error, OSError) and error.errno in BY_ERRNO:
        return BY_ERRNO[error.errno]
    return DENIED if isinstance(error, PermissionError) else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:  # clients wrap what they raise
        yield error
        error = error.__cause__


def _asked(where: Location) -> str | None:
    """Ask for one name. Raises what the store's client raises."""
    if "s3" in where.fs.protocol:
        bucket, _, key = where.path.partition("/")
        find = functools.partial(
            where.fs.call_s3, "list_objects_v2", Bucket=bucket, Prefix=key, MaxKeys=1
        )
        with_backoff(find)
    elif "gs" in where.fs.protocol:
        with_backoff(lambda: where.fs.find(where.path, maxdepth=1, prefix="\u007f"))
    return None


def _endpoint(where: Location) -> str:
    """The URL at which a store is asked."""
    fs: Any = where.fs
    if "s3" in fs.protocol:
        return str(fs.s3.meta.endpoint_url)
    if "gs" in fs.protocol:
        return str(fs.base)
    return str(getattr(fs, "endpoint", where.path))


def _unreachable(url: str) -> str | None:
    """Why nobody answers at a URL; None if somebody does, or if a proxy is asked instead."""
    parts = urlsplit(url)
    proxied = parts.scheme in urllib.request.getproxies()
    if not parts.hostname or (proxied and not urllib.request.proxy_bypass(parts.hostname)):
        return None
    port = parts.port or (80 if parts.scheme == "http" else 443)
    try:
        socket.create_connection((parts.hostname, port), CONNECT_SECONDS).close()
    except OSError as error:
        return (
            f"nothing answers at {parts.scheme}://{parts.hostname}:{port} ({one_line(error)}); "
            "check the network and the store's endpoint"
        )
    return None
