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
from pipeline.storage.refusals import Refusal, refusal_of

if TYPE_CHECKING:
    from pipeline.storage.location import Location

CONNECT_SECONDS = 4.0
EXPIRED = "the credentials have expired; get new ones"
WRONG = "the store does not accept the credentials; correct them"
DENIED = "access is denied; use credentials that may list, read and write it"
BY_CODE = {
    **dict.fromkeys(("ExpiredToken", "RequestExpired", "TokenRefreshRequired"), EXPIRED),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"), WRONG),
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled"), DENIED),
    "NoSuchBucket": "there is no such bucket; create it, or correct the name",
}
"""By the codes of S3; for others `refusals` knows what kind they are."""
PERMISSION = "permission is denied; change it, or name another folder"
BY_ERRNO = {
    errno.ENOSPC: "the disk is full; make room, or name another disk",
    errno.EDQUOT: "the disk's quota is used up; make room, or name another disk",
    errno.EROFS: "the disk is read-only; name another one",
    errno.EACCES: PERMISSION,
    errno.EPERM: PERMISSION,
    errno.EOPNOTSUPP: "name a folder on another disk, or a bucket by its URI",
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
        raise UserError(f"{what} {where}: names no bucket; write BUCKET/FOLDER after it")
    try:
        fault = _unreachable(_endpoint(where)) or _asked(where)
    except Exception as error:  # the stores' clients have errors of many kinds
        code = _code(error)
        fault = f"{BY_CODE[code]} ({code})" if code in BY_CODE else _with_fix(error)
    if fault:
        raise UserError(f"{what} {where}: {fault}")


def write_fix(error: BaseException) -> str:
    """What to do about a folder that cannot be written to."""
    return access_fault(error) or "check the path and its permissions"


def access_fault(error: BaseException) -> str | None:
    """What to do about the access to a store or a disk; None for errors of other kinds."""
    if isinstance(error, OSError) and error.errno in BY_ERRNO:
        return BY_ERRNO[error.errno]
    if _code(error) in BY_CODE:
        return BY_CODE[_code(error)]
    refusal = refusal_of(error)
    if refusal in (None, Refusal.UNREACHABLE):
        return None
    return refusal.fix


def _code(error: BaseException) -> str:
    """The code of S3's answer; empty where it is none."""
    response = getattr(error.__cause__ or error, "response", None)
    return str(response.get("Error", {}).get("Code")) if isinstance(response, dict) else ""


def _with_fix(error: BaseException) -> str:
    return f"{one_line(error)}; {access_fault(error) or 'check its endpoint and its name'}"


def _asked(where: Location) -> str | None:
    """Ask for one name. Raises what the store's client raises."""
    if "s3" in where.fs.protocol:
        bucket, _, key = where.path.partition("/")
        # As a folder, since policies allow listing by prefixes that end in a slash.
        prefix = f"{key.rstrip('/')}/" if key else ""
        find = functools.partial(
            where.fs.call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1
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
    if "abfs" in fs.protocol:
        return str(fs.service_client.url)
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
