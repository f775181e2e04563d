"""Ceph RGW for the tests: a real S3 server, from Debian's packages, unpacked and not installed.

    python -m tests.rgw           start one, say how to reach it, stop it with Ctrl-C
    python -m tests.rgw fetch     only fetch and unpack the packages (70 MB), once

RGW checks signatures and keeps `If-None-Match` and `If-Match` of a plain PUT, but not those of a
multipart upload. It runs in memory, on ports of its own, and ends with the process that started it.
Needs Debian 12 (x86-64) with a package mirror; no root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

KEY = "rgw-key"
SECRET = "rgw-secret"
CACHE = "GEMMA3_BATCH_RGW_CACHE"
"""Environment variable that names another folder for the packages."""
NEEDED = "GEMMA3_BATCH_NEEDS_RGW"
"""Environment variable: `1` makes tests that find no RGW fail instead of being skipped."""
DAEMONS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "osdmaptool")
PACKAGES = """
ceph-base ceph-common ceph-mon ceph-osd radosgw libaio1 libboost-context1.74.0
libboost-filesystem1.74.0 libboost-iostreams1.74.0 libboost-thread1.74.0 libdaxctl1 libfmt9
libfuse2 libibverbs1 libicu72 libkmod2 libleveldb1d liblua5.3-0 libndctl6 libnl-3-200
libnl-route-3-200 liboath0 libpmem1 librabbitmq4 librados2 librdmacm1 libsnappy1v5
"""
"""What the daemons need beyond what comes with git and Python."""
FETCH_S = 600
STEP_S = 120
"""A busy machine takes long; an idle one takes less than a second for each step."""
CONFIG = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{port}
ms bind msgr2 = false
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
mon allow pool size one = true
osd crush chooseleaf type = 0
osd crush update on start = false
osd class update on start = false
osd objectstore = memstore
memstore device bytes = 4294967296
plugin dir = {lib}/ceph
erasure code dir = {lib}/ceph/erasure-code
osd class dir = {lib}/rados-classes
run dir = {folder}
log file = {folder}/$name.log
admin socket =
mon cluster log file =
paxos propose interval = 0.05
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
"""


class UnavailableError(Exception):
    """RGW cannot be had here; one line says why."""


def fetch() -> Path:
    """The folder with the unpacked packages; they are downloaded if they are not there yet.

    Raises:
        UnavailableError: There is no apt, or it has no such packages.
    """
    cache = Path(os.environ.get(CACHE) or Path.home() / ".cache/gemma3-batch/rgw")
    root = cache / "root"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several sessions one fetches
        if not root.is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as made:
                _download(Path(made))
                _unpack(Path(made), cache / "unpacked")
            (cache / "unpacked").rename(root)
    return root


def _download(folder: Path) -> None:
    """Ask apt for the packages; where its lists are missing or old, with lists of our own."""
    (folder / "lists/partial").mkdir(parents=True)
    own = ("-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}")
    try:
        _call(["apt-get", "download", "-qq", *PACKAGES.split()], folder, FETCH_S)
    except UnavailableError:
        with contextlib.suppress(UnavailableError):  # one dead source among several does no harm
            _call(["apt-get", *own, "update", "-qq"], folder, FETCH_S)
        _call(["apt-get", *own, "download", "-qq", *PACKAGES.split()], folder, FETCH_S)


def _unpack(folder: Path, root: Path) -> None:
    for package in sorted(folder.glob("*.deb")):
        _call(["dpkg-deb", "-x", str(package), str(root)], folder, STEP_S)
    missing = [name for name in DAEMONS if not (root / "usr/bin" / name).exists()]
    if missing:
        raise UnavailableError(f"the packages have no {', '.join(missing)}")


def _call(command: list[str], folder: Path, limit_s: float, **environment: str) -> None:
    """Run a command to its end. Raises UnavailableError with the last line it said."""
    env = {**os.environ, **environment}
    try:
        subprocess.run(
            command, cwd=folder, env=env, timeout=limit_s, check=True, capture_output=True
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip() or f"exit status {error.returncode}"
        raise UnavailableError(f"{Path(command[0]).name}: {said.splitlines()[-1]}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{Path(command[0]).name}: {error}") from None


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Start a cluster of one monitor, one disk in memory and one gateway; gives its endpoint.

    The daemons get SIGKILL from the kernel when the calling thread ends, however it does.

    Raises:
        UnavailableError: RGW cannot be had.
        RuntimeError: It can, and did not start.
    """
    root = fetch()
    with (
        tempfile.TemporaryDirectory(prefix="gemma3-batch-rgw-") as folder,
        contextlib.ExitStack() as daemons,
    ):
        try:
            endpoint = _start(root, Path(folder), daemons)
        except UnavailableError as error:
            raise RuntimeError(f"Ceph RGW did not start: {error}") from None
        yield endpoint


def _start(root: Path, folder: Path, daemons: contextlib.ExitStack) -> str:
    environment = _configured(root, folder, port := _free_port(), fsid := str(uuid.uuid4()))
    programs = root / "usr/bin"

    def call(name: str, *arguments: str) -> None:
        _call([str(programs / name), *arguments], folder, STEP_S, **environment)

    def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(programs / name), "-f", *arguments]
        return daemons.enter_context(_daemon(command, folder, environment))

    address = f"[v1:127.0.0.1:{port}]"
    call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, "monmap")
    # A map with one disk in it from the start: adding it later takes the `ceph` command, and that
    # takes the system's Python.
    call("osdmaptool", "--createsimple", "1", "osdmap")
    call("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--osdmap", "osdmap")
    start("ceph-mon", "-i", "a")
    call("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", str(uuid.uuid4()))
    start("ceph-osd", "-i", "0")
    names = ("--uid=test", "--display-name=test", f"--access-key={KEY}", f"--secret={SECRET}")
    call("radosgw-admin", "user", "create", *names)
    port = _free_port()
    gateway = start(
        "radosgw", "-n", "client.rgw", f"--rgw-frontends=beast endpoint=127.0.0.1:{port}"
    )
    _wait_for(endpoint := f"http://127.0.0.1:{port}", gateway)
    return endpoint


def _configured(root: Path, folder: Path, port: int, fsid: str) -> Mapping[str, str]:
    """Write the configuration; gives the environment the programs need to find it."""
    lib = root / "usr/lib/x86_64-linux-gnu"
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    (folder / "ceph.conf").write_text(CONFIG.format(folder=folder, lib=lib, port=port, fsid=fsid))
    libraries = (lib, root / "lib/x86_64-linux-gnu", lib / "ceph")
    return {
        "CEPH_CONF": str(folder / "ceph.conf"),
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
    }


@contextlib.contextmanager
def _daemon(
    command: list[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the foreground that the kernel kills when its parent is gone."""
    tied = ["setpriv", "--pdeathsig", "KILL", *command]
    with (folder / f"{Path(command[0]).name}.out").open("wb") as output:
        process = subprocess.Popen(
            tied,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us
        )
    try:
        yield process
    finally:
        process.kill()  # all it has is in memory
        process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(endpoint: str, gateway: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + STEP_S
    while time.monotonic() < give_up and gateway.poll() is None:
        try:
            urllib.request.urlopen(endpoint, timeout=10).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise UnavailableError("radosgw did not answer" if gateway.poll() is None else "radosgw ended")


def main() -> None:
    """Start a server by hand, or only fetch it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        if sys.argv[1:] == ["fetch"]:
            print(f"Ceph RGW is in {fetch()}")
            return
        with serving() as endpoint, contextlib.suppress(KeyboardInterrupt):
            print(
                f"export AWS_ENDPOINT_URL={endpoint} AWS_ACCESS_KEY_ID={KEY} "
                f"AWS_SECRET_ACCESS_KEY={SECRET} AWS_DEFAULT_REGION=us-east-1 "
                "AWS_REQUEST_CHECKSUM_CALCULATION=when_required",
                flush=True,
            )
            signal.pause()
    except UnavailableError as error:
        sys.exit(f"Ceph RGW cannot be had here: {error}")
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
