"""A small OpenAI-compatible server of the tests' own, whose faults a test writes.

Its answer to an image is the colour of its middle, its answer to a text the text itself. As a
process, which a test may kill: `python -m tests.openai_server PORT SECONDS ANSWERED`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import socket
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from PIL import Image

Fault = Callable[[web.Request], Awaitable[web.StreamResponse]]
MODEL = "gemma"
CARD = {"id": MODEL, "root": "/models/gemma", "owned_by": "vllm", "max_model_len": 2048}


def refusing(status: int, message: str = "no", code: str = "", **headers: str) -> Fault:
    """An error as OpenAI's API has it; `_` in a header's name stands for `-`."""

    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = {"error": {"message": message, "code": code}}
        return web.json_response(body, status=status, headers=named)

    return answer


async def resetting(request: web.Request) -> web.StreamResponse:
    """No answer: the connection is gone."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def saying(body: Any) -> Fault:
    """An answer with this body."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(body)

    return answer


@dataclass
class Server:
    """What the server does; a test may change it at any time.

    Attributes:
        key: The key it wants.
        models: What it lists; None for no list.
        seconds: How long it works on a request, and `slots` on how many at once.
        faults: What it does instead of answering, one for each request; small ones are left out.
        always: What it does with all requests, small ones too.
        refuses_over: It answers 429 while it has more requests than this.
        logprobs: The first tokens and their log-probabilities; None gives none.
        seen: The bodies of all requests but small ones.
        headers: The headers of all requests.
        most: The most requests that it had at once.
    """

    key: str | None = None
    models: list[dict[str, Any]] | None = field(default_factory=lambda: [CARD])
    seconds: float = 0.0
    slots: int = 10_000
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault | None = None
    refuses_over: int = 10_000
    logprobs: dict[str, float] | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most: int = 0
    answered: Callable[[], object] = lambda: None
    _running: int = 0

    def app(self) -> web.Application:
        """To be served in one event loop."""
        self._room = asyncio.Semaphore(self.slots)
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/v1/models", self._list)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/v1/completions", self._complete)
        return app

    async def _list(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        if self.always is not None:
            return await self.always(request)
        if refusal := self._locked(request):
            return refusal
        if self.models is None:
            return web.Response(status=404, text="not found")
        return web.json_response({"object": "list", "data": self.models})

    def _locked(self, request: web.Request) -> web.Response | None:
        if self.key is None or request.headers.get("Authorization") == f"Bearer {self.key}":
            return None
        return web.json_response({"error": "Unauthorized"}, status=401)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        if self.always is not None:
            return await self.always(request)
        if refusal := self._locked(request):
            return refusal
        body = await request.json()
        if body["model"] not in [model["id"] for model in self.models or [CARD]]:
            message = f"The model `{body['model']}` does not exist."
            return web.json_response({"error": {"message": message}}, status=404)
        is_small = body["max_tokens"] == 1 and "logprobs" not in body
        if not is_small:
            self.seen.append(body)
            if self.faults:
                return await self.faults.popleft()(request)
        return await self._worked(body)

    async def _worked(self, body: dict[str, Any]) -> web.StreamResponse:
        self._running += 1
        self.most = max(self.most, self._running)
        try:
            if self._running > self.refuses_over:
                return web.json_response({"error": {"message": "slow down"}}, status=429)
            async with self._room:
                await asyncio.sleep(self.seconds)
            self.answered()
            return web.json_response(self._answer(body))
        finally:
            self._running -= 1

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        text = body["prompt"] if "prompt" in body else _said(body["messages"][-1]["content"])
        choices = []
        for index in range(body.get("n", 1)):
            choice: dict[str, Any] = {"index": index, "finish_reason": "stop"}
            if "prompt" in body:
                choice["text"] = text
            else:
                choice["message"] = {"role": "assistant", "content": text}
            if "logprobs" in body and self.logprobs is not None:
                choice["finish_reason"] = "length"
                choice["logprobs"] = self._logprobs(is_chat="prompt" not in body)
            choices.append(choice)
        usage = {"prompt_tokens": 7, "completion_tokens": len(text.split())}
        return {"model": body["model"], "choices": choices, "usage": usage}

    def _logprobs(self, *, is_chat: bool) -> dict[str, Any]:
        assert self.logprobs is not None
        if not is_chat:
            return {"top_logprobs": [self.logprobs]}
        listed = [{"token": token, "logprob": p} for token, p in self.logprobs.items()]
        return {"content": [{**listed[0], "top_logprobs": listed}]}


def _said(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    url = content[0].get("image_url", {}).get("url", "")
    body = base64.b64decode(url.partition("base64,")[2])
    image = Image.open(io.BytesIO(body)).convert("RGB")
    return " ".join(map(str, image.getpixel((image.width // 2, image.height // 2))))


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def serving(server: Server, port: int | None = None) -> Iterator[str]:
    """A server in a thread for as long as the block; gives the address of its API."""
    port = port or free_port()
    loop = asyncio.new_event_loop()
    started = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(server.app(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()], daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def main() -> None:
    """Serve until this is killed; a byte is added to the file for each answer."""
    port, seconds, answered = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])

    def note() -> None:
        with answered.open("ab") as file:
            file.write(b".")

    server = Server(seconds=seconds, answered=note)

    async def app() -> web.Application:
        return server.app()

    web.run_app(app(), host="127.0.0.1", port=port, print=None, reuse_address=True)


if __name__ == "__main__":
    main()
