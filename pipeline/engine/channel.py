"""Messages between an engine's process and the process that uses it, over a pair of sockets.

Decides how a message travels: pickled, with its arrays beside the pickle, so that an image's pixels
are copied by the kernel alone, once each way. A thread that comes back from the kernel waits for
the interpreter's lock, up to 5 ms while the engine computes. So an array is read in one call, and
so are small messages, as many as are there: read piece by piece, 256 of them took two seconds
(2026-12-01). When one end closes, or its process is gone, the other one sees the end.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import struct
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import groupby
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.contract.config import EngineConfig
    from pipeline.contract.errors import RowError
    from pipeline.contract.task import Generation
    from pipeline.engine.interface import Rendered


@dataclass(frozen=True, slots=True)
class Begin:
    """To the engine, first of all: start, with these variables in the environment."""

    config: EngineConfig
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Ask:
    """To the engine: answer this request.

    Attributes:
        number: Its own; a key may be asked for again while it is still worked on.
        key: Decides its seed.
        rendered: The request.
    """

    number: int
    key: str
    rendered: Rendered


@dataclass(frozen=True, slots=True)
class Abort:
    """To the engine: nobody waits for this answer any more."""

    number: int
    key: str


@dataclass(frozen=True, slots=True)
class Close:
    """To the engine: end."""


@dataclass(frozen=True, slots=True)
class Starting:
    """From the engine: the step of its start that began at this Unix time; see `EngineStats`."""

    step: str
    at: float


@dataclass(frozen=True, slots=True)
class NotStarted:
    """From the engine: why it ends before it began. The user can fix it if `is_users`."""

    message: str
    is_users: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """From the engine: it takes requests since this Unix time. See `EngineStats` for the others."""

    model_class: str
    slots: int
    kv_tokens: int
    at: float


@dataclass(frozen=True, slots=True)
class Died:
    """From the engine: it can answer nothing any more, and ends."""

    message: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """From the engine, after steps and about once a second: a sign of life.

    Attributes:
        answers: What is finished, by number.
        running: Requests that it works on.
        waiting: Requests that it has and does not work on yet.
        steps: Steps since it started.
        prompt_tokens: Tokens of the prompts that it has answered since then.
        cached_tokens: Those of them that its prefix cache had.
    """

    answers: Mapping[int, Generation | RowError] = field(default_factory=dict)
    running: int
    waiting: int
    steps: int
    prompt_tokens: int = 0
    cached_tokens: int = 0


AT_ONCE = 2**18
"""Bytes of messages that are read or written in one call."""


class Channel:
    """One end. Any thread may send; one thread at a time may receive.

    Args:
        end: One of a `socket.socketpair`.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._incoming = BufferedReader(end.makefile("rb", 0), AT_ONCE)
        self._outbox: SimpleQueue[list[memoryview] | None] = SimpleQueue()
        self._writer = Thread(target=self._write_all, name="channel", daemon=True)
        self._writer.start()

    def send(self, message: object) -> None:
        """Send a message, without waiting. To an end that is closed, it is lost.

        Raises:
            Exception: It cannot be pickled.
        """
        self._outbox.put(_packed(message))

    def receive(self) -> Any:
        """Wait for the next message.

        Raises:
            EOFError: The other end is closed, or its process is gone.
        """
        (count,) = _HEAD.unpack(self._read(_HEAD.size))
        lengths = struct.unpack(f"!{count}Q", self._read(8 * count))
        body, *buffers = [self._read(length) for length in lengths]
        return pickle.loads(body, buffers=buffers)  # noqa: S301  from our own process

    def flush(self, seconds: float) -> None:
        """Send what is still to be sent, for so long; nothing more can be sent then."""
        self._outbox.put(None)
        self._writer.join(seconds)

    def _read(self, length: int) -> bytearray:
        body = bytearray(length)
        got = 0
        while got < length:
            got += self._read_into(memoryview(body)[got:], is_begun=got > 0)
        return body

    def _read_into(self, view: memoryview, *, is_begun: bool) -> int:
        try:
            if is_begun:  # nothing is left of what was read before
                read = self._socket.recv_into(view, 0, socket.MSG_WAITALL)
            else:
                read = self._incoming.readinto1(view)
        except OSError:  # the other end's process was killed
            read = 0
        if not read:
            raise EOFError
        return read

    def _write_all(self) -> None:
        is_open = True
        with contextlib.suppress(OSError):  # the one who receives notices that the other is gone
            while is_open:
                pieces, is_open = self._waiting()
                for is_small, some in groupby(pieces, lambda piece: piece.nbytes < AT_ONCE):
                    for piece in [b"".join(some)] if is_small else some:
                        self._socket.sendall(piece)

    def _waiting(self) -> tuple[list[memoryview], bool]:
        """Pieces of all that waits, once there is something; and whether more may come."""
        pieces: list[memoryview] = []
        size = 0
        while size < AT_ONCE:
            try:
                more = self._outbox.get(block=not pieces)
            except Empty:
                break
            if more is None:
                return pieces, False
            pieces += more
            size += sum(piece.nbytes for piece in more)
        return pieces, True


_HEAD = struct.Struct("!I")


def _packed(message: object) -> list[memoryview]:
    """A message's head (how many pieces follow, and how long they are), its pickle and arrays."""
    arrays: list[pickle.PickleBuffer] = []
    body = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
    pieces = [memoryview(body), *(array.raw() for array in arrays)]
    lengths = struct.pack(f"!{len(pieces)}Q", *(piece.nbytes for piece in pieces))
    return [memoryview(_HEAD.pack(len(pieces)) + lengths), *pieces]
