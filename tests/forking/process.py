"""Forks processes, each of which takes on what was asked for."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from socket import socket

from tests.forking.messages import Wanted, read_message, wanted


def serve(requests: socket, be: Callable[[Wanted, list[int], int], None]) -> None:
    """Fork a process for each request, until there can be none.

    Args:
        requests: Where a server asks.
        be: What the forked process does: takes what is asked for, its open files, and the
            connection to its client, which is to be open as long as it lives.
    """
    sys.path.pop(0)  # the folder of `-m`; a process has its own
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while (message := read_message(requests))[0]:
        body, (*files, connection) = message
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            be(wanted(body), files, connection)
            return
        for file in (*files, connection):
            os.close(file)


def take_on(asked: Wanted, streams: list[int]) -> list[str]:
    """Take on group, streams, folder and environment; gives the folders to import from."""
    os.setpgid(0, 0)
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(asked.folder)
    os.environ.clear()
    os.environ.update(asked.variables)
    python_path = asked.variables.get("PYTHONPATH", "").split(os.pathsep)
    return [folder for folder in python_path if folder and folder not in sys.path]
