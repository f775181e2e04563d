"""What goes through a channel arrives whole, and small messages in few calls."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pipeline.contract.task import Sampling
from pipeline.engine.channel import AT_ONCE, Ask, Channel
from pipeline.engine.interface import Rendered


class Counting(socket.socket):
    """A socket that counts the calls that write to it and read from it."""

    written = read = 0

    def sendall(self, *args: Any) -> None:
        self.written += 1
        super().sendall(*args)

    def recv_into(self, *args: Any) -> int:
        self.read += 1
        return super().recv_into(*args)


@pytest.fixture
def ends() -> Iterator[tuple[Counting, Counting]]:
    one, other = (Counting(fileno=end.detach()) for end in socket.socketpair())
    with one, other:
        yield one, other


def ask(number: int, *pixels: np.ndarray) -> Ask:
    return Ask(number, f"key-{number}", Rendered((list(range(200)), pixels), 200, Sampling(64)))


def test_small_messages_are_read_as_many_as_are_there(ends: tuple[Counting, Counting]) -> None:
    sender = Channel(ends[0])
    for number in range(100):
        sender.send(ask(number))
    sender.flush(10)
    receiver = Channel(ends[1])
    assert [receiver.receive().number for _ in range(100)] == [*range(100)]
    # One call for each part of each message, three of them, is what it must not be.
    assert ends[1].read < 20


def test_what_waits_is_written_at_once(
    ends: tuple[Counting, Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Channel, "_write_all", lambda _: None)  # the thread of the first
    sender = Channel(ends[0])
    for number in range(50):
        sender.send(ask(number))
    sender.flush(10)
    monkeypatch.undo()
    sender._write_all()
    assert ends[0].written == 1
    receiver = Channel(ends[1])
    assert [receiver.receive().number for _ in range(50)] == [*range(50)]


def test_messages_of_all_sizes_arrive_whole(ends: tuple[Counting, Counting]) -> None:
    chance, sizes = random.Random(0), [0, 1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE]
    sent = [
        ask(number, *(np.full(size, number % 251, np.uint8) for size in chance.sample(sizes, 2)))
        for number in range(60)
    ]
    sender, receiver = Channel(ends[0]), Channel(ends[1])
    for message in sent:
        sender.send(message)
    for message in sent:
        got = receiver.receive()
        assert (got.number, got.rendered.sampling) == (message.number, message.rendered.sampling)
        ids, pixels = got.rendered.prompt
        assert ids == message.rendered.prompt[0]
        for one, other in zip(pixels, message.rendered.prompt[1], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("part", [b"", struct.pack("!I", 2), struct.pack("!IQ", 1, 10**6) + b"ab"])
def test_an_end_within_a_message_is_an_end(ends: tuple[Counting, Counting], part: bytes) -> None:
    ends[0].sendall(part)
    ends[0].shutdown(socket.SHUT_RDWR)
    with pytest.raises(EOFError):
        Channel(ends[1]).receive()
