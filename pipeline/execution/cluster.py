"""Which Ray cluster a run uses: an existing one, or a local one that ends with the run.

Here and in the rest of the package Ray is imported inside functions only: importing Ray takes
seconds, and much of the package works without it. What Ray prints is `quiet`'s to decide.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from pipeline.contract.errors import RunError, UserError, one_line
from pipeline.execution.own_cluster import without_coordinators, without_watchers
from pipeline.execution.quiet import (
    RAY_LOGGER,
    environment,
    level,
    messages_in_a_file,
    noting_variables,
    ray_log_level,
    removing_variables,
    without_log_level_line,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

GIB = 2**30
ENGINE_END_S = 30.0
"""Time that engines have to shut down; on a busy machine with two cores they take 6 s. A little
longer than `orphan_watcher` gives them."""
WORKERS = {
    "RAY_num_workers_soft_limit": "8",
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
}
"""By default Ray (2.60) ends an idle worker process after a second if there are more of them than
CPUs. Starting one takes seconds of CPU time, and on a small machine tasks start all the time."""
UNTOLD = {"RAY_DATA_USAGE_DISABLED": "1"}
"""Ray Data (2.60) counts for its makers how it is used, in a process of its own."""
SHARED_MEMORY = "/dev/shm"  # noqa: S108  where Ray puts its object store
OWN_CLUSTER = ("", "local")
"""Values of `RAY_ADDRESS` that name no cluster."""
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container finds its limit: cgroups of version 2, and of version 1."""
LEAST_SHARED = GIB // 2
"""Bytes; with less, Ray (2.60) puts its object store on a disk, and says so nowhere we look."""
START_TRIES = 3
TOO_SLOW = "timed out during startup"
LONG_NAME = "AF_UNIX path length"
"""In what Ray says where its temporary folder is too deep for sockets."""
CONNECT_SECONDS = 5.0
SETTINGS = b"\x04"
"""The type of HTTP/2's first frame (RFC 9113, 6.5), and below where it is in the frame's head."""
FRAME_HEAD, FRAME_TYPE = 9, 3
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + SETTINGS + b"\0" * 5
"""What a client begins with (RFC 9113, 3.4): fixed words, and an empty frame of that type."""
HINT = (
    "if it asks for a token, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the token's file "
    "(by default ~/.ray/auth_token)"
)
"""What helps where somebody answers at the address, and Ray cannot connect."""
CLIENT_PORT = 10001
"""Port of a `ray://` address that names none."""


def starts_own_cluster() -> bool:
    """Whether `cluster` would start a local one; without importing Ray."""
    return not _is_connected() and os.environ.get("RAY_ADDRESS", "") in OWN_CLUSTER


def _is_connected() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


@contextlib.contextmanager
def cluster(
    *, debug: bool, say: Callable[[str], None] = lambda _: None, for_one_run: bool = True
) -> Iterator[None]:
    """Connect to a cluster for the duration of a run.

    If this process is connected to one already, that is used and stays connected. Otherwise
    `RAY_ADDRESS` names one; if it is not set, a local cluster is started, and stopped at the end.

    Args:
        debug: Show the workers' output and Ray's own messages.
        say: Shows what is being done.
        for_one_run: Whether no two runs share it at once.

    Raises:
        UserError: `RAY_ADDRESS` names a cluster that does not answer.
    """
    import ray

    if ray.is_initialized():
        with environment(UNTOLD):
            yield
        return
    address, local = os.environ.get("RAY_ADDRESS", ""), starts_own_cluster()
    say("starting Ray" if local else f"connecting to Ray at {address}")
    if local and (fault := _shared_memory_fault()):
        say(fault)
    with ray_log_level(debug), removing_variables() as new:
        with noting_variables(new):
            parts = _start_local(debug) if local else _connect(address, debug)
        try:
            alone = without_coordinators() if local and for_one_run else contextlib.nullcontext()
            with messages_in_a_file(debug), environment(UNTOLD), alone:
                yield
        except BaseException as error:
            _end(parts, engines_first=False, at_once=getattr(error, "at_once", False))
            raise
        _end(parts, engines_first=True)


def _connect(address: str, debug: bool) -> list[psutil.Process]:
    """Connect to a cluster. Returns no processes: none of them is ours."""
    import ray
    from ray.exceptions import AuthenticationError

    _check_answers(address)
    try:
        with without_log_level_line(debug):
            ray.init(log_to_driver=debug, configure_logging=False)
    except (AuthenticationError, ConnectionError) as error:
        raise UserError(
            f"RAY_ADDRESS={address} is no cluster to run on: {one_line(error)}; {HINT}"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise UserError(f"RAY_ADDRESS={address} is no cluster to run on: {one_line(error)}") from (
            error
        )
    return []


def check_address() -> None:
    """Check that a cluster answers where `RAY_ADDRESS` names one; without importing Ray.

    Ray (2.60) itself tries for more than a minute, and for minutes where another program answers.

    Raises:
        UserError: None does.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if address not in OWN_CLUSTER and not _is_connected():
        _check_answers(address)


def _check_answers(address: str) -> None:
    scheme, separator, rest = address.rpartition("://")
    if scheme not in ("", "ray") or (not separator and address == "auto"):
        return
    host, _, port = rest.partition("/")[0].rpartition(":")
    if not host:
        host, port = port, str(CLIENT_PORT) if scheme else ""
    if not port.isdigit():
        raise UserError(f"RAY_ADDRESS={address}: should be HOST:PORT, ray://HOST:PORT or auto")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS) as peer:
            fault = "" if _speaks_grpc(peer) else "another program listens on that port"
    except (OSError, OverflowError) as error:
        fault = one_line(error)
    if fault:
        raise UserError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there ({fault}); start it, or unset "
            "RAY_ADDRESS to run on this machine alone"
        )


def _speaks_grpc(peer: socket.socket) -> bool:
    """Whether HTTP/2 is spoken, as Ray's servers do: the answer to its preface is `SETTINGS`."""
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return True  # it cannot be asked like this
    peer.settimeout(CONNECT_SECONDS)
    peer.sendall(PREFACE)
    try:
        return peer.recv(FRAME_HEAD)[FRAME_TYPE:][:1] == SETTINGS
    except TimeoutError:
        return False


def _start_local(debug: bool) -> list[psutil.Process]:
    """Start a local cluster. Returns Ray's own processes, whose descendants are its workers."""
    from ray._private import worker

    defaults = {"RAY_USAGE_STATS_ENABLED": "0", **WORKERS}
    with _start_faults(), environment(defaults), without_log_level_line(debug):
        start_ray(debug, object_store_memory=_object_store(_memory()))
    node = worker._global_node
    return [psutil.Process(process.pid) for _, process in node.live_processes()]


def start_ray(debug: bool, **settings: Any) -> None:
    """Start Ray on this machine, without a dashboard; more than once where it takes too long.

    Args:
        debug: Show the workers' output.
        **settings: More arguments of `ray.init`.

    Raises:
        Exception: It does not start.
    """
    with contextlib.nullcontext() if debug else without_watchers():
        for more in reversed(range(START_TRIES)):
            if _has_started(debug, settings, gives_up=not more):
                return


def _has_started(debug: bool, settings: Mapping[str, Any], *, gives_up: bool) -> bool:
    """Start Ray on this machine.

    Ray (2.60) gives itself 30 s, which is not enough on a busy machine, and leaves what it has
    started behind then, which is ended here.

    Args:
        debug: Show the workers' output.
        settings: More arguments of `ray.init`.
        gives_up: Whether there is no other try after this.

    Returns:
        Whether it runs.

    Raises:
        Exception: It does not for another reason, or this was the last try.
    """
    import ray

    before = _children(psutil.Process())
    try:
        with level(RAY_LOGGER, logging.INFO if debug else logging.CRITICAL):
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=debug,
                configure_logging=False,
                **settings,
            )
    except Exception as error:
        _kill([process for process in _children(psutil.Process()) if process not in before])
        if gives_up or TOO_SLOW not in str(error):
            raise
        return False
    return True


@contextlib.contextmanager
def _start_faults() -> Iterator[None]:
    """Say what Ray needs to start, which its own errors do not.

    Raises:
        RunError: In the place of Ray's error.
    """
    try:
        yield
    except Exception as error:  # it has many kinds, and plain ones
        files = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
        fix = (
            f"It needs idle cores, and room in {SHARED_MEMORY} and in {files}; make room there, or "
            "try again."
        )
        if LONG_NAME in str(error):
            fix = "Set RAY_TMPDIR to a folder with a short name, such as /tmp."
        raise RunError(
            f"Ray did not start on this machine: {one_line(error, 200)}\n{fix}"
        ) from error


def _shared_memory_fault() -> str:
    """What to know of a shared memory that is too small, as in a container; empty if it is not."""
    room = shutil.disk_usage(SHARED_MEMORY).free if os.path.isdir(SHARED_MEMORY) else 0
    if room >= LEAST_SHARED:
        return ""
    return (
        f"warning: {SHARED_MEMORY} has {room / 2**20:,.0f} MiB left, so Ray keeps rows in files, "
        "which is slow; free it, or start the container with --shm-size=8g"
    )


def _object_store(memory: int) -> int:
    """Bytes of Ray's shared memory.

    A run keeps some blocks in flight, never a whole dataset. But of what there is, Ray Data (2.60)
    leaves about a seventh to what is rendered, and a rendered image takes 2.4 MB.

    Args:
        memory: Bytes of the machine's memory.
    """
    room = shutil.disk_usage(SHARED_MEMORY).free if os.path.isdir(SHARED_MEMORY) else 0
    least = min(max(memory // 32, GIB // 2), 8 * GIB)
    if room < LEAST_SHARED:
        return least  # it lies in a file then
    return min(max(least, min(memory // 8, 64 * GIB)), room * 9 // 10)


def _memory() -> int:
    """Bytes of this machine's memory, or those that its container may use."""
    found = [psutil.virtual_memory().total]
    for path in MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # none, or `max`
            found.append(int(Path(path).read_text()))
    return int(min(found))


def _end(parts: list[psutil.Process], *, engines_first: bool, at_once: bool = False) -> None:
    """Disconnect; stop the cluster if it is a local one, with what it has started.

    Ray (2.60) kills the actors that still run when the cluster stops. Their engines are then ended
    by their watchers (`engine.orphans`), and have the time for it here. After a run that went well
    the actors are about to stop their engines themselves, so those come first.

    Args:
        parts: The local cluster's own processes; empty if it is not ours.
        engines_first: Whether to wait for engines before the cluster is stopped.
        at_once: Whether to wait for nothing; as where Ctrl-C is pressed again meanwhile.
    """
    started = [process for part in parts for process in _children(part, recursive=True)]
    try:
        if at_once:
            _kill(started)
        _stop(parts, engines_first=engines_first)
    except KeyboardInterrupt:
        _kill([*started, *parts])
        raise


def _stop(parts: list[psutil.Process], *, engines_first: bool) -> None:
    import ray

    if engines_first:
        workers = [worker for part in parts for worker in _children(part)]
        engines = [process for worker in workers for process in _children(worker, recursive=True)]
        psutil.wait_procs(engines, timeout=ENGINE_END_S)
    started = [process for part in parts for process in _children(part, recursive=True)]
    ray.shutdown()
    _, left = psutil.wait_procs([*parts, *started], timeout=ENGINE_END_S + 5)
    _kill(left)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _children(process: psutil.Process, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=recursive))
    except psutil.NoSuchProcess:
        return []
