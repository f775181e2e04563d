"""What passes by itself is tried again; what does not is told at once."""

from __future__ import annotations

import errno

import pytest
from aiohttp import ClientPayloadError, ServerDisconnectedError
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from fsspec.exceptions import FSTimeoutError

from pipeline.storage import backoff
from pipeline.storage.backoff import is_transient, with_backoff


def answer(status: int, code: str) -> ClientError:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutObject")


def wrapped(cause: Exception, kind: OSError) -> OSError:
    """As s3fs hands a client's error on."""
    kind.__cause__ = cause
    return kind


PASSING = [
    answer(503, "SlowDown"),
    answer(500, "InternalError"),
    answer(429, "TooManyRequests"),
    answer(409, "ConditionalRequestConflict"),
    wrapped(answer(503, "SlowDown"), OSError(errno.EBUSY, "slow down")),
    wrapped(answer(500, "InternalError"), OSError(errno.EIO, "we failed")),
    EndpointConnectionError(endpoint_url="http://x"),
    ReadTimeoutError(endpoint_url="http://x"),
    ClientPayloadError("cut off"),
    ServerDisconnectedError(),
    FSTimeoutError(),
    ConnectionResetError(),
    TimeoutError(),
    OSError(errno.ETIMEDOUT, "timed out"),
    OSError(errno.ESTALE, "stale file handle"),
]
LASTING = [
    answer(404, "NoSuchKey"),
    answer(403, "AccessDenied"),
    answer(412, "PreconditionFailed"),
    wrapped(answer(412, "PreconditionFailed"), OSError(errno.EINVAL, "a condition")),
    FileNotFoundError("x"),
    PermissionError("x"),
    OSError(errno.ENOSPC, "no space left"),
    ValueError("x"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_passes(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_does_not_pass(error: Exception) -> None:
    assert not is_transient(error)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(backoff, "LONGEST_PAUSE_S", 0.0)


def failing(times: int, error: Exception) -> tuple[list[int], object]:
    calls: list[int] = []

    def call() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "done"

    return calls, call


def test_a_call_is_tried_again_until_it_succeeds() -> None:
    calls, call = failing(7, ConnectionResetError())
    assert with_backoff(call) == "done"  # type: ignore[arg-type]
    assert len(calls) == 8


def test_backoff_ends() -> None:
    calls, call = failing(8, ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        with_backoff(call)  # type: ignore[arg-type]
    assert len(calls) == 8


def test_what_lasts_is_told_at_once() -> None:
    calls, call = failing(1, PermissionError())
    with pytest.raises(PermissionError):
        with_backoff(call)  # type: ignore[arg-type]
    assert len(calls) == 1
