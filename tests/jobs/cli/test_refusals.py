"""A disk or a store that does not let us in: the real command says so in one line, and no more.

Each ends with exit code 2 before Ray starts and with nothing written.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.cli import app as cli
from tests.mounts import can_mount

CODES = {
    "denied": ("AccessDenied", 403),
    "expired": ("ExpiredToken", 400),
    "unknown-key": ("InvalidAccessKeyId", 403),
    "absent": ("NoSuchBucket", 404),
}
"""What the server below answers, by bucket."""
MOST_SECONDS = 60
"""The command takes three seconds; the store's clients would try for minutes."""


class Refusing(BaseHTTPRequestHandler):
    """An S3 server that refuses everything."""

    def do_GET(self) -> None:
        code, status = CODES[self.path.strip("/").partition("?")[0].partition("/")[0]]
        body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        self.send_header("Content-Length", str(0 if self.command == "HEAD" else len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(pa.table({"image": [b"x"]}), folder / "a.parquet")
    return folder


def told(folder: Path, *arguments: object, before: str = "", **variables: str) -> str:
    """Run a command that must end with 2 and leave the folder as it is; returns its one line.

    Args:
        folder: What must stay as it is; Ray would put its own files here too.
        arguments: Of the command.
        before: What a shell does first.
        variables: Environment variables.
    """
    here = files(folder)
    command = [sys.executable, "-m", "jobs", *(str(argument) for argument in arguments)]
    if before:
        command = ["unshare", "-m", "sh", "-ec", f'{before}; exec "$@"', "sh", *command]
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret-key",
        "AWS_DEFAULT_REGION": "us-east-1",
        "RAY_TMPDIR": str(folder),
        **variables,
    }
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=MOST_SECONDS,
        env=environment,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert files(folder) == here
    return line.removeprefix("gemma3-batch: ")


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("bucket", "fault"),
    [
        ("denied", "access is denied; use credentials that may list, read and write it"),
        ("expired", "the credentials have expired; get new ones"),
        ("unknown-key", "the store does not accept the credentials; correct them"),
        ("absent", "there is no such bucket; create it, or correct the name"),
    ],
)
def test_a_bucket_that_does_not_let_us_in(
    endpoint: str, dataset: Path, tmp_path: Path, bucket: str, fault: str
) -> None:
    output = f"s3://{bucket}/out"
    arguments = ("caption", dataset, output, "--model", "demo")
    line = told(tmp_path, *arguments, AWS_ENDPOINT_URL=endpoint)
    assert line == f"OUTPUT {output}: {fault} ({CODES[bucket][0]})"


def test_an_input_that_does_not_let_us_in(endpoint: str, tmp_path: Path) -> None:
    arguments = ("caption", "s3://denied/in/*.parquet", tmp_path / "out", "--model", "demo")
    line = told(tmp_path, *arguments, AWS_ENDPOINT_URL=endpoint)
    assert line.startswith("INPUT s3://denied/in: access is denied; ")


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "errors",
        "retry --outcome truncated",
        "calibrate --policy x --labels y",
        "errors --export s3://expired/failed.parquet",
    ],
)
def test_every_command_uses_the_storage_options_that_it_is_given(
    endpoint: str, command: str
) -> None:
    store = {"endpoint_url": endpoint, "key": "k", "secret": "s"}
    name, *more = command.split()
    arguments = [name, "s3://expired/out", *more, "--storage-options", json.dumps({"s3": store})]
    done = CliRunner().invoke(cli.app, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "gemma3-batch: OUTPUT s3://expired/out: the credentials have expired; get new ones "
        "(ExpiredToken)\n"
    )


def test_an_endpoint_where_nobody_answers(dataset: Path, tmp_path: Path) -> None:
    url = "http://127.0.0.1:9"
    arguments = ("caption", dataset, "s3://photos/out", "--model", "demo")
    line = told(tmp_path, *arguments, AWS_ENDPOINT_URL=url)
    assert line.startswith(f"OUTPUT s3://photos/out: nothing answers at {url} (ConnectionRefused")
    assert line.endswith("; check the network and the store's endpoint")


@pytest.mark.parametrize(
    ("options", "made", "fault"),
    [
        ("size=64k", "head -c 64k /dev/zero > {disk}/filler || true", "No space left on device"),
        ("ro", "true", "Read-only file system"),
    ],
)
def test_a_disk_that_cannot_be_written_to(
    dataset: Path, tmp_path: Path, options: str, made: str, fault: str
) -> None:
    if not can_mount():
        pytest.skip("disks cannot be mounted here")
    disk = tmp_path / "disk"
    disk.mkdir()
    before = f"mount -t tmpfs -o {options} none {disk}; {made.format(disk=disk)}"
    arguments = ("caption", dataset, disk / "out", "--model", "demo")
    line = told(tmp_path, *arguments, before=before)
    assert line.startswith(f"OUTPUT {disk}/out cannot be written to: OSError: [Errno ")
    assert fault in line


def test_a_folder_that_may_not_be_written_to(dataset: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "kept").mkdir(mode=0o555)
    line = told(tmp_path, "caption", dataset, tmp_path / "kept" / "out", "--model", "demo")
    assert line.startswith(f"OUTPUT {tmp_path}/kept/out cannot be written to: PermissionError: ")
