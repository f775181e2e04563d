"""What a client asks for, on its way through sockets together with open files."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass

HEAD = 8
"""Bytes of a message that say how long the rest is."""
MOST_FILES = 5
"""Three streams, an engine's channel, the connection to the client."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A process that is asked for.

    Attributes:
        folder: Its working directory.
        command: Ray's script and its options; `--engine` and more for an engine.
        variables: Its environment.
    """

    folder: str
    command: list[str]
    variables: dict[str, str]

    @property
    def is_engine(self) -> bool:
        """Whether it is an engine's process; else a Ray worker."""
        return self.command[0] == "--engine"


def read_message(connection: socket.socket) -> tuple[bytes, list[int]]:
    """A message and the files that came with it; no bytes where the other side has closed."""
    head, files, _, _ = socket.recv_fds(connection, HEAD, MOST_FILES)
    size, body = int.from_bytes(head, "big"), b""
    while len(body) < size and (piece := connection.recv(size - len(body))):
        body += piece
    return body if len(body) == size else b"", files


def send_message(connection: socket.socket, body: bytes, files: list[int]) -> None:
    """The other way; the files are closed here."""
    socket.send_fds(connection, [len(body).to_bytes(HEAD, "big")], files)
    connection.sendall(body)
    for file in files:
        os.close(file)


def wanted(body: bytes) -> Wanted:
    """What a client's message asks for."""
    folder, options, variables = json.loads(body)
    command = []
    for option in options:
        name, _, value = option.partition("=")
        if name == "--serialized-runtime-env-context":
            variables |= json.loads(value)["env_vars"]
        elif name != "--language":
            command.append(option)
    return Wanted(folder=folder, command=command, variables=variables)
