from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from google.auth.exceptions import DefaultCredentialsError, RefreshError
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from s3fs.errors import translate_boto_error

from pipeline.storage.refusals import Refusal, refusal_of


def of_s3(code: str, status: int = 403) -> Exception:
    answer: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {}}
    answer["ResponseMetadata"]["HTTPStatusCode"] = status
    error: Exception = translate_boto_error(ClientError(answer, "GetObject"))
    return error


class OfHub(GatedRepoError):
    def __init__(self) -> None:
        Exception.__init__(self, "403")


class NotOnHub(RepositoryNotFoundError):
    def __init__(self) -> None:
        Exception.__init__(self, "401")


class OfGoogle(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"{code}")
        self.code = code


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


UNKNOWN_HOST = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
BUSY_NAMES = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
ENDPOINT = EndpointConnectionError(endpoint_url="http://x")
REFUSALS: dict[str, tuple[Exception, Refusal | None]] = {
    "expired": (of_s3("ExpiredToken", 400), Refusal.CREDENTIALS),
    "unknown key": (of_s3("InvalidAccessKeyId"), Refusal.CREDENTIALS),
    "wrong secret": (of_s3("SignatureDoesNotMatch"), Refusal.CREDENTIALS),
    "none": (NoCredentialsError(), Refusal.CREDENTIALS),
    "none of Google's": (DefaultCredentialsError("none"), Refusal.CREDENTIALS),
    "Google's expired": (RefreshError("expired"), Refusal.CREDENTIALS),
    "Google's 401": (OfGoogle(401), Refusal.CREDENTIALS),
    "denied": (of_s3("AccessDenied"), Refusal.DENIED),
    "a HEAD that is denied": (of_s3("403"), Refusal.DENIED),
    "no bucket": (of_s3("NoSuchBucket", 404), Refusal.DENIED),
    "Google's 403": (OSError("Forbidden: b/o"), Refusal.DENIED),
    "gated": (OfHub(), Refusal.DENIED),
    "no repository": (caused(FileNotFoundError("x"), NotOnHub()), Refusal.DENIED),
    "no host": (caused(ENDPOINT, UNKNOWN_HOST), Refusal.DENIED),
    "no name server": (caused(OSError("x"), BUSY_NAMES), None),
    "no answer": (EndpointConnectionError(endpoint_url="http://y"), Refusal.UNREACHABLE),
    "busy": (of_s3("SlowDown", 503), Refusal.UNREACHABLE),
    "no key": (of_s3("NoSuchKey", 404), None),
    "archived": (of_s3("InvalidRequest", 400), None),
    "any other": (ValueError("x"), None),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_a_store_refuses(kind: str) -> None:
    error, expected = REFUSALS[kind]
    assert refusal_of(error) is expected


def test_on_a_disk_only_a_lost_one_refuses() -> None:
    assert refusal_of(PermissionError(errno.EACCES, "x"), is_local=True) is None
    assert refusal_of(FileNotFoundError(errno.ENOENT, "x"), is_local=True) is None
    lost = OSError(errno.ENOTCONN, "Transport endpoint is not connected")
    assert refusal_of(lost, is_local=True) is Refusal.UNREACHABLE
