"""A TCP proxy that stands between a client and a server, and fails on request."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nContent-Length: 64\r\n"
    b"Connection: close\r\n\r\n"
    + b"<Error><Code>SlowDown</Code><Message>Slow down</Message></Error>".ljust(64)
)


class FaultyProxy:
    """Forwards to `target` (host, port) until it is told to `reset`, `stall` or answer `503`."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._mode = "forward"
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def failing(self, mode: str) -> Iterator[None]:
        """Fail so within; connections that are open are cut at its begin."""
        self._mode = mode
        for connection in list(self._open):
            _reset(connection)
        try:
            yield
        finally:
            self._mode = "forward"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        mode = self._mode
        if mode == "reset":
            _reset(client)
        elif mode == "503":
            with contextlib.suppress(OSError):
                client.recv(65536)
                client.sendall(UNAVAILABLE)
            client.close()
        elif mode == "stall":
            while self._mode == "stall":
                time.sleep(0.1)
            _reset(client)
        else:
            self._forward(client)

    def _forward(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            _reset(client)
            return
        self._open |= {client, server}
        threads = [
            threading.Thread(target=_pump, args=pair, daemon=True)
            for pair in ((client, server), (server, client))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._open -= {client, server}
        client.close()
        server.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while body := source.recv(65536):
            sink.sendall(body)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    """Close with a reset instead of a farewell."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        connection.close()
