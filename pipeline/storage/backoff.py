"""Decides which errors of a store or a network are transient, and how often a call is tried.

Throttling, server errors, resets and timeouts are tried again with exponential backoff and jitter;
everything else (no such file, no permission, a failed condition) is raised at once.
"""

from __future__ import annotations

import asyncio
import errno
import http.client
from typing import TYPE_CHECKING, TypeVar

import tenacity

from pipeline.profiling import events

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

TRIES = 8
"""With the pauses below at most 25 s; the store's client makes several attempts in each try, which
with its own pauses gives about a minute."""
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
        "ClientError",  # aiohttp's; botocore's is recognised by its response
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
        "ServiceRequestError",
        "ServiceResponseError",
        "TransportError",
    }
)
"""Classes of aiohttp, azure.core, botocore, fsspec, google.auth and httpx by name, so that no
client need be imported for them."""


def is_transient(error: BaseException | None) -> bool:
    """Whether the same call may succeed a little later."""
    if error is None:
        return False
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's ClientError
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = response.get("Error", {}).get("Code")
        return status in TRANSIENT_STATUS or code in TRANSIENT_CODES
    status = (
        getattr(response, "status_code", None)  # of the Hugging Face Hub's errors
        or getattr(error, "code", None)
        or getattr(error, "status", None)
    )
    if isinstance(status, int) and status >= FIRST_ERROR_STATUS:
        return status in TRANSIENT_STATUS
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, TRANSIENT_CLASSES) or names & TRANSIENT_NAMES:
        return True
    if is_transient(error.__cause__):  # s3fs raises an OSError from its client's error
        return True
    is_answer = isinstance(getattr(error.__cause__, "response", None), dict)
    return not is_answer and isinstance(error, OSError) and error.errno in TRANSIENT_ERRNO


def note_retry(_: tenacity.RetryCallState) -> None:
    """Count that a store is asked again; for `before_sleep` of tenacity."""
    events.note("store_retry")


def with_backoff(call: Callable[[], T]) -> T:
    """Return `call()`, trying again after transient errors. Raises the last error."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_random_exponential(FIRST_PAUSE_S, LONGEST_PAUSE_S),
        before_sleep=note_retry,
        reraise=True,
    )(call)
