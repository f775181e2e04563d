"""One HTTP request to the server, and the key that goes with it.

Decides what is no answer at all: no connection, no reply in time, a connection that broke. What a
reply means is decided in `replies`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import SecretStr
from pydantic_core import PydanticSerializationError, to_json

from pipeline.contract.config import KEY_VARIABLES
from pipeline.contract.errors import one_line
from pipeline.contract.redaction import HIDDEN

if TYPE_CHECKING:
    from aiohttp import ClientSession

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 3.0
"""A connection that was not used for so long is not used again. Servers close them after some
seconds (uvicorn, which vLLM uses, after five), and a request that crosses that is lost."""
PROBES = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
"""How it is noticed that the other machine is gone, while a request waits: after 90 s."""


@dataclass(frozen=True)
class Address:
    """Where the server is. It pickles; its `repr` has no key.

    Attributes:
        url: Such as `http://host:8000/v1`.
        key: The key to it; None sends none.
    """

    url: str
    key: SecretStr | None = None

    def without_key(self, text: str) -> str:
        """A text of the server's, which may quote the key."""
        key = self.key.get_secret_value() if self.key else ""
        return text.replace(key, HIDDEN) if key else text


def address_of(url: str) -> Address:
    """The address, with the key of this process's environment."""
    found = (os.environ.get(name, "").strip() for name in KEY_VARIABLES)
    key = next(filter(None, found), None)
    return Address(url, SecretStr(key) if key else None)


def _proxy_for(url: str) -> dict[str, Any]:
    """The proxy that the environment names for a server, as arguments of aiohttp's requests.

    Not by aiohttp's `trust_env`, which also takes a password for the server out of `~/.netrc`, and
    refuses to send a key beside it.
    """
    server = urlsplit(url)
    named = getproxies().get(server.scheme)
    if not named or proxy_bypass(server.hostname or ""):
        return {}
    proxy = urlsplit(named)
    if proxy.username is None:
        return {"proxy": named}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {
        "proxy": urlunsplit(proxy._replace(netloc=proxy.netloc.rpartition("@")[2])),
        "proxy_headers": {"Proxy-Authorization": f"Basic {base64.b64encode(login).decode()}"},
    }


@dataclass(frozen=True)
class Reply:
    """What a server replied.

    Attributes:
        status: The status.
        headers: Their names in lower case.
        body: Its JSON; None where it is none.
    """

    status: int
    headers: Mapping[str, str]
    body: Any


class NoReplyError(Exception):
    """There was no reply.

    Args:
        message: Why.
        was_sent: Whether the server may have worked on the request.
    """

    def __init__(self, message: str, *, was_sent: bool) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class Client:
    """Sends requests from one event loop.

    Args:
        address: Where the server is.
        seconds: Most time for a request.
    """

    def __init__(self, address: Address, seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._proxy = _proxy_for(address.url)
        self._session: ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def get(self, path: str, seconds: float | None = None) -> Reply:
        """Send a GET. Raises NoReplyError."""
        return await self._send("GET", path, None, seconds)

    async def post(self, path: str, body: Mapping[str, Any], seconds: float | None = None) -> Reply:
        """Send a POST with a body of JSON. Raises NoReplyError."""
        return await self._send("POST", path, _encoded(body), seconds)

    async def _send(self, method: str, path: str, body: bytes | None, most: float | None) -> Reply:
        from aiohttp import ClientConnectorError, ClientError, ClientTimeout

        seconds = most or self._seconds
        try:
            async with self._opened().request(
                method,
                self._address.url + path,
                data=body,
                headers=self._headers(),
                allow_redirects=False,
                **self._proxy,
                timeout=ClientTimeout(total=seconds, sock_connect=min(CONNECT_SECONDS, seconds)),
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status, headers, _json(await response.read()))
        except TimeoutError as error:  # aiohttp's too
            connecting = "Connect" in type(error).__name__
            message = f"no answer within {CONNECT_SECONDS if connecting else seconds:g} s"
            raise NoReplyError(message, was_sent=not connecting) from None
        except ClientConnectorError as error:
            raise NoReplyError(_why(error), was_sent=False) from None
        except (ClientError, OSError) as error:
            raise NoReplyError(f"the connection broke ({_why(error)})", was_sent=True) from None

    def _headers(self) -> dict[str, str]:
        """Of a request; those of a session aiohttp 3.14 gives to a proxy too, with the key."""
        headers = {"Content-Type": "application/json"}
        if self._address.url.startswith("http:"):  # a proxy gets the request itself, no CONNECT
            headers |= self._proxy.get("proxy_headers", {})
        if self._address.key is not None:
            headers["Authorization"] = f"Bearer {self._address.key.get_secret_value()}"
        return headers

    def _opened(self) -> ClientSession:
        """The session, which belongs to the running loop."""
        from aiohttp import ClientSession, TCPConnector

        if self._session is None:
            self._loop = asyncio.get_running_loop()
            connector = TCPConnector(  # `Concurrency` limits how many there are
                limit=0, keepalive_timeout=IDLE_SECONDS, socket_factory=_probing_socket
            )
            self._session = ClientSession(connector=connector)
        return self._session

    async def aclose(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def close(self) -> None:
        """As `aclose`, from any thread; at exit too, when the loop may be gone."""
        if self._session is None or self._loop is None:
            return
        if self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self.aclose(), self._loop)
        else:
            with contextlib.suppress(RuntimeError):  # another loop runs in this thread
                asyncio.run(self.aclose())


def _probing_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket that notices when the other machine is gone."""
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
        if hasattr(socket, name):  # not everywhere under these names
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


def _why(error: BaseException) -> str:
    """What went wrong with a connection, in few words."""
    inner = getattr(error, "os_error", None) or error
    if isinstance(inner, ConnectionRefusedError):
        return "connection refused"
    if isinstance(inner, socket.gaierror):
        return "there is no host of this name"
    return one_line(inner, 160)


def _encoded(body: Mapping[str, Any]) -> bytes:
    """A body as JSON; with an image in it, five times as fast as by Python's own encoder."""
    try:
        return to_json(body)
    except PydanticSerializationError:  # half of a surrogate pair, which UTF-8 does not have
        return json.dumps(body).encode()


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
