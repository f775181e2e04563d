"""Object stores for the tests: moto's S3 and Ceph RGW, each in processes of its own, and a GCS."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage.location import Location, StorageOptions, locate
from tests import gcs as google
from tests import rgw as ceph
from tests.chaos.proxy import FaultyProxy

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing-key",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
}
START_SECONDS = 30


@dataclass(frozen=True)
class S3:
    """A running server.

    Attributes:
        endpoint: Its URL.
        key: Access key id.
        secret: What belongs to it.
        log: Where it notes each request; None where it does not.
    """

    endpoint: str
    key: str
    secret: str
    log: Path | None = None

    @property
    def options(self) -> StorageOptions:
        """Storage options that reach it, whatever the environment says."""
        return {
            "s3": {
                "key": self.key,
                "secret": self.secret,
                "endpoint_url": self.endpoint,
                "client_kwargs": {"region_name": ENVIRONMENT["AWS_DEFAULT_REGION"]},
                "config_kwargs": {"request_checksum_calculation": "when_required"},
            }
        }

    def bucket(self, name: str = "") -> str:
        """Create a bucket, under a name of its own unless one is given. Returns its name."""
        import boto3

        name = name or f"b-{uuid.uuid4().hex[:12]}"
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name=ENVIRONMENT["AWS_DEFAULT_REGION"],
        )
        client.create_bucket(Bucket=name)
        return name

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.endpoint.removeprefix("http://").split(":")
        return host, int(port)

    @property
    def url(self) -> str:
        """The URL of a new bucket."""
        return f"s3://{self.bucket()}"

    def requests(self) -> list[str]:
        """All requests so far, as `GET /bucket/key?query`."""
        assert self.log is not None, "this server keeps no log"
        plain = re.sub(r"\x1b\[\d+m", "", self.log.read_text())
        return re.findall(r'"([A-Z]+ \S+) HTTP', plain)


@dataclass(frozen=True)
class GCS:
    """A running stand-in for Google's.

    Attributes:
        endpoint: Its URL.
    """

    endpoint: str

    @property
    def options(self) -> StorageOptions:
        """Storage options that reach it."""
        return {"gs": {"endpoint_url": self.endpoint, "token": "anon", "project": "p"}}

    @property
    def url(self) -> str:
        """The URL of a new bucket."""
        return f"gs://b-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def gcs() -> Iterator[GCS]:
    """One server for all tests; reached with its `options` alone."""
    with google.serving() as endpoint:
        yield GCS(endpoint)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """One server for all tests; `locate("s3://...")` reaches it without options."""
    import s3fs

    log = tmp_path_factory.mktemp("s3") / "requests.log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    with log.open("wb") as output, pytest.MonkeyPatch.context() as patch:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint}.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
            patch.delenv(name, raising=False)
        command = [sys.executable, "-m", "tests.moto_server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ.copy())
        try:
            _wait_for(port, server)
            s3fs.S3FileSystem.clear_instance_cache()
            key, secret = ENVIRONMENT["AWS_ACCESS_KEY_ID"], ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
            yield S3(endpoint, key, secret, log)
        finally:
            server.kill()
            server.wait()
            s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def rgw() -> Iterator[S3]:
    """A Ceph RGW for all tests; reached with its `options` alone. Skips where there is none."""
    with contextlib.ExitStack() as running:
        try:
            endpoint = running.enter_context(ceph.serving())
        except ceph.UnavailableError as error:
            if os.environ.get(ceph.NEEDED) == "1":
                raise
            pytest.skip(f"Ceph RGW cannot be had here: {error}")
        yield S3(endpoint, ceph.KEY, ceph.SECRET)


STORES = ("disk", "s3", "rgw", "gcs")


def new_folder(request: pytest.FixtureRequest, disk: Path) -> Location:
    """An empty OUTPUT on the store that a fixture's parameter, one of `STORES`, names."""
    if request.param == "disk":
        return locate(str(disk))
    server: S3 | GCS = request.getfixturevalue(request.param)
    return locate(f"{server.url}/out", server.options)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        assert server.poll() is None, "the S3 server ended before it answered"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the S3 server did not start")


def through(proxy: FaultyProxy) -> dict[str, dict[str, Any]]:
    """Storage options that reach the server through a proxy, with little backoff."""
    return {
        "s3": {
            "key": ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            "secret": ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
            "endpoint_url": f"http://127.0.0.1:{proxy.port}",
            "config_kwargs": {"connect_timeout": 3, "read_timeout": 3},
        }
    }
