"""Which faults of a store or a network pass by themselves, and how long to wait for that.

Throttling, server errors, resets and timeouts are tried again with growing pauses; everything else
(no such file, no permission, a condition that does not hold) is told at once.
"""

from __future__ import annotations

import asyncio
import errno
import http.client
from typing import TYPE_CHECKING, TypeVar

import tenacity

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

TRIES = 8
"""With the pauses below about a minute; the store's own client tries each of them several times."""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 20.0
FIRST_ERROR_STATUS = 400
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
TRANSIENT_CODES = frozenset(
    {
        "InternalError",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "OperationAborted",
        "ConditionalRequestConflict",
    }
)
"""Error codes of S3; the last two mean that another request for the same key is in progress."""
TRANSIENT_ERRNO = frozenset(
    {errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET}
    | {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETRESET, errno.EPIPE, errno.ETIMEDOUT}
    | {errno.ESTALE, errno.EINTR}
)
TRANSIENT_CLASSES = (
    ConnectionError,
    TimeoutError,
    asyncio.TimeoutError,
    http.client.HTTPException,
)
TRANSIENT_NAMES = frozenset(
    {
        "ClientError",  # aiohttp's; botocore's own is told apart by its response
        "ClientPayloadError",
        "ConnectionClosedError",
        "ConnectTimeoutError",
        "EndpointConnectionError",
        "FSTimeoutError",
        "HTTPClientError",
        "IncompleteReadError",
        "ReadTimeoutError",
        "ResponseParserError",
        "ResponseStreamingError",
        "ServerDisconnectedError",
    }
)
"""Classes of aiohttp, botocore and fsspec, by name: no client is imported to tell its errors."""


def is_transient(error: BaseException | None) -> bool:
    """Whether the same call may succeed a little later."""
    if error is None:
        return False
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's ClientError
        return _is_transient_response(response)
    status = getattr(error, "code", None) or getattr(error, "status", None)
    if isinstance(status, int) and status >= FIRST_ERROR_STATUS:
        return status in TRANSIENT_STATUS
    if isinstance(error, TRANSIENT_CLASSES) or _names(error) & TRANSIENT_NAMES:
        return True
    if isinstance(error.__cause__, Exception) and _knows_better(error.__cause__):
        return is_transient(error.__cause__)
    return isinstance(error, OSError) and error.errno in TRANSIENT_ERRNO


def with_backoff(call: Callable[[], T]) -> T:
    """Call, again while the fault is transient. Raises the last fault."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_random_exponential(FIRST_PAUSE_S, LONGEST_PAUSE_S),
        reraise=True,
    )(call)


def _is_transient_response(response: dict[str, dict[str, object]]) -> bool:
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = response.get("Error", {}).get("Code")
    return status in TRANSIENT_STATUS or code in TRANSIENT_CODES


def _knows_better(cause: BaseException) -> bool:
    """Whether the cause says more than the OSError that s3fs made of it."""
    return isinstance(getattr(cause, "response", None), dict) or is_transient(cause)


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}
