"""What the tests' own stores have in common: answers over HTTP, from memory, in threads."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BINARY = "application/octet-stream"


class Answering(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def answer(self, value: object) -> None:
        """Send a value as JSON."""
        self.send(json.dumps(value).encode(), HTTPStatus.OK, {"Content-Type": "application/json"})

    def refuse(self, status: HTTPStatus, **headers: str) -> None:
        """Send an error; `_` in a header's name stands for `-`."""
        body = json.dumps({"error": {"message": status.phrase}}).encode()
        self.send(body, status, {name.replace("_", "-"): text for name, text in headers.items()})

    def send_range(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a body, or the part of it that was asked for."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self.send(body, HTTPStatus.OK, headers)
            return
        start, stop = int(wanted[1]), int(wanted[2] or len(body) - 1) + 1
        if start >= len(body):
            self.refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        of = {"Content-Range": f"bytes {start}-{min(stop, len(body)) - 1}/{len(body)}"}
        self.send(body[start:stop], HTTPStatus.PARTIAL_CONTENT, {**headers, **of})

    def send(self, body: bytes, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        """Send bytes; of a HEAD request's answer the head alone."""
        self.send_response(status)
        for name, value in {"Content-Type": BINARY, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


@contextlib.contextmanager
def serving(handler: type[Answering]) -> Iterator[str]:
    """A server for as long as the block; gives its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
