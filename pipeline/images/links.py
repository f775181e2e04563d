"""Decides how an image behind an `http://` or `https://` link of a dataset is fetched.

Links come from untrusted data, so they must not reach services inside the network of the machine
(server-side request forgery). A host's name is resolved here, every address is checked, and the
connection is made to the checked address itself: neither DNS rebinding nor a redirect gets around
that. Addresses that are not global are refused (this machine, private networks, the clouds'
metadata services). No proxy is used, TLS is verified, and at most five redirects are followed, to
http and https only.

Only the name server's answer can take longer than the deadline: the socket is shut down then,
whatever waits on it. Transient faults (408, 425, 429, 5xx, resets, timeouts, a busy name server)
are tried again. The package's table says which outcome a fault becomes.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import socket
import ssl
import threading
import time
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import tenacity
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, InvalidHeader, LocationParseError
from urllib3.util import Retry, Url, make_headers, parse_url

from pipeline.contract.errors import RowError, one_line
from pipeline.contract.record import Outcome
from pipeline.contract.redaction import redact
from pipeline.storage.backoff import TRANSIENT_STATUS, note_retry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from urllib3.response import HTTPResponse

TRIES = 4
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
SILENT_S = 20.0
"""Longest wait for one address to connect (a name may have several), and for the next bytes."""
MAX_REDIRECTS = 5
PORTS = {"http": 80, "https": 443}
OK = 200
REDIRECTS = frozenset({301, 302, 303, 307, 308})
CHUNK = 64 * 1024
HEADERS = {
    "User-Agent": "gemma3-batch",
    "Accept": "image/*,*/*;q=0.5",
    "Accept-Encoding": "identity",
}
NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that embed IPv4 ones (RFC 6052)."""
REFUSED = (
    ipaddress.ip_network("192.0.0.0/24"),  # special purposes, such as Oracle's metadata service
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's platform services, on each of its machines
)
"""Refused too, though `ipaddress` (Python 3.11.7) says they are global."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class _TransientError(Exception):
    """A fault that may be gone at the next try; `pause_s` is the server's `Retry-After`."""

    def __init__(self, message: str, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


def fetch_link(url: str, *, max_bytes: int, seconds: float, allow_private: bool) -> bytes:
    """Download the body behind a link.

    Args:
        url: `http://` or `https://`.
        max_bytes: A longer body is refused, by its `Content-Length` or while it is read.
        seconds: Most time for all tries together.
        allow_private: Whether addresses that are not global may be reached.

    Raises:
        RowError: `missing_input`; or `decode_error` where the body is too long.
    """
    deadline = time.monotonic() + seconds
    try:
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_TransientError),
            stop=tenacity.stop_after_attempt(TRIES) | tenacity.stop_before_delay(seconds),
            wait=_pause,
            before_sleep=note_retry,
            reraise=True,
        )(_follow, url, max_bytes, deadline, allow_private)
    except _TransientError as fault:
        raise _missing(url, str(fault)) from None


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds before the next try: exponential backoff with jitter, at least `Retry-After`."""
    assert state.outcome is not None
    fault = state.outcome.exception()
    asked = fault.pause_s if isinstance(fault, _TransientError) else 0.0
    pause = tenacity.wait_random_exponential(FIRST_PAUSE_S, LONGEST_PAUSE_S)
    return max(asked, float(pause(state)))


def _follow(url: str, max_bytes: int, deadline: float, allow_private: bool) -> bytes:
    """One try, following redirects."""
    here = url
    for _ in range(MAX_REDIRECTS + 1):
        with _request(here, url, deadline, allow_private) as response:
            if response.status not in REDIRECTS or "Location" not in response.headers:
                return _body(response, url, max_bytes)
            here = _joined(here, response.headers["Location"], url)
    raise _missing(url, f"more than {MAX_REDIRECTS} redirects")


@contextlib.contextmanager
def _request(here: str, url: str, deadline: float, allow_private: bool) -> Iterator[HTTPResponse]:
    """The response to one GET; network errors, also those inside the block, become ours."""
    target = _parsed(here, url)
    try:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(
                contextlib.closing(_connect(target, url, deadline, allow_private))
            )
            stack.callback(_shut_down_at(deadline, connection.sock).cancel)
            headers = {**HEADERS, "Host": target.netloc or ""}
            if target.auth:  # a password in a link is sent to that link's own host only
                headers |= make_headers(basic_auth=target.auth)
            connection.request("GET", target.request_uri, headers=headers, preload_content=False)
            yield stack.enter_context(contextlib.closing(connection.getresponse()))
            _left(deadline)  # a body without Content-Length looks complete when the socket is shut
    except ssl.SSLCertVerificationError as error:
        raise _missing(url, f"its certificate is not trusted: {one_line(error)}") from None
    except (HTTPError, HTTPException, OSError) as error:
        if time.monotonic() >= deadline:
            raise _missing(url, "not complete within the time limit") from None
        raise _TransientError(one_line(error)) from None


def _shut_down_at(deadline: float, sock: socket.socket) -> threading.Timer:
    """Start a timer that wakes whatever then waits on this socket."""

    def shut_down() -> None:
        with contextlib.suppress(OSError):
            # Not `SSLSocket.shutdown`, which changes an object that another thread uses.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(_left(deadline), shut_down)
    timer.daemon = True
    timer.start()
    return timer


def _joined(here: str, location: str, url: str) -> str:
    try:
        return urljoin(here, location)
    except ValueError:
        raise _missing(url, "it leads to what is not a valid URL") from None


def _parsed(here: str, url: str) -> Url:
    try:
        target = parse_url(here)
    except LocationParseError:
        raise _missing(url, "it is not a valid URL") from None
    if target.scheme not in PORTS or not target.host:
        raise _missing(url, f"it leads to {here}, and only http:// and https:// are followed")
    return target


def _connect(target: Url, url: str, deadline: float, allow_private: bool) -> HTTPConnection:
    """A connection to the first address that answers, after all of them were checked."""
    assert target.host is not None
    assert target.scheme is not None
    host = target.host.strip("[]")
    port = target.port or PORTS[target.scheme]
    addresses = _resolve(host, port, url)
    for address in addresses:
        if not allow_private and not _is_global(address):
            raise _missing(url, f"{host} is {address}, an address that links may not reach")
    fault: OSError | HTTPError | None = None
    for address in addresses:
        connection = _connection(target.scheme, host, address, port, deadline)
        try:
            connection.connect()
        except (OSError, HTTPError) as error:
            connection.close()
            fault = error
        else:
            return connection
    assert fault is not None, "a name that resolves has an address"
    raise fault


def _connection(
    scheme: str, host: str, address: Address, port: int, deadline: float
) -> HTTPConnection:
    timeout = min(SILENT_S, _left(deadline))
    if scheme == "http":
        return HTTPConnection(str(address), port, timeout=timeout)
    return HTTPSConnection(
        str(address),
        port,
        timeout=timeout,
        server_hostname=host,  # what the certificate must be for
        ssl_context=_tls(),
    )


@functools.cache
def _tls() -> ssl.SSLContext:
    """Once a process: reading the system's certificates takes about 20 ms."""
    return ssl.create_default_context()


def _left(deadline: float) -> float:
    """Seconds until the deadline. Raises TimeoutError after it."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


def _resolve(host: str, port: int, url: str) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise _TransientError(f"the name server does not answer for {host}") from None
        raise _missing(url, f"there is no host {host}") from None
    except UnicodeError:
        raise _missing(url, f"{host} is not the name of a host") from None
    texts = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)
    return [ipaddress.ip_address(text) for text in texts]


def _is_global(address: Address) -> bool:
    """Whether it is an ordinary address of the public internet."""
    inner = _embedded(address)
    if inner is not None:
        return _is_global(inner)
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in REFUSED)
    )


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv6 one: mapped, 6to4 or NAT64."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _body(response: HTTPResponse, url: str, max_bytes: int) -> bytes:
    _check_status(response, url)
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(url, max_bytes)
    chunks: list[bytes] = []
    size = 0
    for chunk in response.stream(CHUNK):
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(url, max_bytes)
    return b"".join(chunks)


def _check_status(response: HTTPResponse, url: str) -> None:
    if response.status == OK:
        return
    answer = f"the server answers {response.status} {response.reason or ''}".rstrip()
    if response.status not in TRANSIENT_STATUS:
        raise _missing(url, answer)
    pause_s = 0.0
    with contextlib.suppress(InvalidHeader):
        pause_s = Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    raise _TransientError(answer, pause_s)


def _missing(url: str, why: str) -> RowError:
    return RowError(Outcome.MISSING_INPUT, "fetch", f"{redact(url)}: {why}")


def _too_large(url: str, max_bytes: int) -> RowError:
    message = f"{redact(url)} has more than the limit of {max_bytes:,} bytes"
    return RowError(Outcome.DECODE_ERROR, "fetch", message)
