"""A web server of this machine whose answers a test writes, down to the bytes and their timing."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


@dataclass
class Server:
    """A running server: `routes` gives the answer of each path, `seen` notes what was asked."""

    port: int = 0
    routes: dict[str, Answer] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        """The URL of a path."""
        return f"{scheme}://{host}:{self.port}{path}"


def respond(status: int, body: bytes = b"", **headers: str) -> Answer:
    """An ordinary answer; `_` in a header's name stands for `-`."""

    def answer(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """One answer after the other, the last one for ever."""
    left = list(answers)

    def answer(handler: Handler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Start a server, with TLS if a context is given, and end it with the block."""
    server = Server()

    class Requests(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            server.seen.append(self.path)
            server.headers.append(dict(self.headers))
            with contextlib.suppress(OSError):  # a client that went away
                server.routes.get(path, respond(404))(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    running = Quiet(("127.0.0.1", 0), Requests)
    if context is not None:
        running.socket = context.wrap_socket(running.socket, server_side=True)
    server.port = running.server_address[1]
    threading.Thread(target=running.serve_forever, args=[0.01], daemon=True).start()
    try:
        yield server
    finally:
        running.shutdown()
        running.server_close()
