from __future__ import annotations

import gzip
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.contract.errors import RowError
from pipeline.contract.record import Outcome
from pipeline.images import links
from pipeline.images.links import fetch_link
from tests.pipeline.server import Answer, Handler, Server, in_turn, respond, serving

GOOD = respond(200, b"body")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between tries that a test can wait for."""
    monkeypatch.setattr(links, "FIRST_PAUSE_S", 0.01)


def fetch(url: str, *, seconds: float = 20, max_bytes: int = 1000, private: bool = True) -> bytes:
    return fetch_link(url, max_bytes=max_bytes, seconds=seconds, allow_private=private)


def fault(url: str, **options: Any) -> str:
    """The text of a `missing_input`."""
    with pytest.raises(RowError) as error:
        fetch(url, **options)
    assert error.value.outcome is Outcome.MISSING_INPUT
    text = str(error.value)
    assert text.startswith("fetch: ")
    assert "\n" not in text
    return text


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Make every name have these addresses. Returns the names asked for, as they are."""
    asked: list[str] = []

    def lookup(host: str, port: int, *_: object, **__: object) -> list[tuple[Any, ...]]:
        asked.append(host)
        return [
            (family_of(address), socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(links.socket, "getaddrinfo", lookup)
    return asked


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def test_a_link_gives_its_body(server: Server) -> None:
    server.routes["/a b.jpg"] = server.routes["/a%20b.jpg"] = GOOD
    assert fetch(server.url("/a b.jpg?size=9&key=1#part")) == b"body"
    assert server.seen == ["/a%20b.jpg?size=9&key=1"]
    assert server.headers[0]["Host"] == f"127.0.0.1:{server.port}"
    assert server.headers[0]["User-Agent"].startswith("gemma3-batch")


def test_a_compressed_body_is_unpacked_within_the_limit(server: Server) -> None:
    server.routes["/x"] = respond(200, gzip.compress(b"b" * 900), Content_Encoding="gzip")
    server.routes["/bomb"] = respond(200, gzip.compress(b"b" * 10**6), Content_Encoding="gzip")
    assert fetch(server.url("/x")) == b"b" * 900
    with pytest.raises(RowError, match="more than the limit of 1,000 bytes"):
        fetch(server.url("/bomb"))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server: Server, status: int) -> None:
    server.routes["/x/a"] = respond(status, Location="../b?q=1")
    server.routes["/b"] = respond(status, Location=server.url("/c"))
    server.routes["/c"] = GOOD
    assert fetch(server.url("/x/a")) == b"body"
    assert server.seen == ["/x/a", "/b?q=1", "/c"]


def test_five_redirects_and_no_more(server: Server) -> None:
    for number in range(6):
        server.routes[f"/{number}"] = respond(302, Location=f"/{number + 1}")
    server.routes["/6"] = GOOD
    assert fetch(server.url("/1")) == b"body"
    assert "more than 5 redirects" in fault(server.url("/0"))
    server.routes["/loop"] = respond(302, Location="/loop")
    assert "more than 5 redirects" in fault(server.url("/loop"))


def test_a_redirect_to_no_url_is_a_missing_input(server: Server) -> None:
    server.routes["/x"] = respond(302, Location="http://[")
    assert "it leads to what is not a valid URL" in fault(server.url("/x"))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/"])
def test_a_redirect_to_another_protocol_is_not_followed(server: Server, target: str) -> None:
    server.routes["/x"] = respond(302, Location=target)
    assert "only http:// and https:// are followed" in fault(server.url("/x"))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 451])
def test_a_refusal_is_told_at_once(server: Server, status: int) -> None:
    server.routes["/x"] = respond(status)
    assert f"the server answers {status}" in fault(server.url("/x"))
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_passes_is_tried_four_times(server: Server, status: int) -> None:
    server.routes["/x"] = in_turn(respond(status), respond(status), respond(status), GOOD)
    assert fetch(server.url("/x")) == b"body"
    server.routes["/y"] = respond(status)
    assert f"the server answers {status}" in fault(server.url("/y"))
    assert server.seen == ["/x"] * 4 + ["/y"] * 4


def reset(handler: Handler) -> None:
    linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()


def half(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "4")
    handler.end_headers()
    handler.wfile.write(b"bo")


def nonsense(handler: Handler) -> None:
    handler.wfile.write(b"what?\r\n\r\n")


@pytest.mark.parametrize("broken", [reset, half, nonsense])
def test_a_broken_connection_is_tried_again(server: Server, broken: Answer) -> None:
    server.routes["/x"] = in_turn(broken, broken, GOOD)
    assert fetch(server.url("/x")) == b"body"
    server.routes["/y"] = broken
    assert fault(server.url("/y"))
    assert server.seen == ["/x"] * 3 + ["/y"] * 4


def test_nobody_there_is_tried_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    assert "Connection refused" in fault(url)


def test_retry_after_is_kept_to_but_not_beyond_the_deadline(server: Server) -> None:
    server.routes["/x"] = in_turn(respond(429, Retry_After="1"), GOOD)
    begin = time.monotonic()
    assert fetch(server.url("/x")) == b"body"
    assert 1 <= time.monotonic() - begin < 3
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    for asked in ("3600", later):
        server.routes["/y"] = respond(503, Retry_After=asked)
        begin = time.monotonic()
        assert "503" in fault(server.url("/y"), seconds=5)
        assert time.monotonic() - begin < 1
    assert server.seen == ["/x", "/x", "/y", "/y"]


def drip(handler: Handler) -> None:
    for _ in range(100):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


def dripping_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    drip(handler)


def dripping_body(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    drip(handler)


def endless_drip(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    drip(handler)


def silence(_: Handler) -> None:
    time.sleep(5)


@pytest.mark.parametrize("slow", [dripping_headers, dripping_body, endless_drip, silence])
def test_nothing_lasts_longer_than_the_deadline(server: Server, slow: Answer) -> None:
    server.routes["/x"] = slow
    begin = time.monotonic()
    assert "not complete within the time limit" in fault(server.url("/x"), seconds=0.5)
    assert 0.4 < time.monotonic() - begin < 1.5


def test_a_body_too_long_is_refused_by_its_length_or_as_it_comes(server: Server) -> None:
    def endless(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            handler.wfile.write(b"x" * 10**6)

    def promised(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")
        time.sleep(5)

    server.routes |= {"/endless": endless, "/promised": promised}
    for path in server.routes:
        begin = time.monotonic()
        with pytest.raises(RowError, match="more than the limit of 1,000 bytes") as error:
            fetch(server.url(path))
        assert error.value.outcome is Outcome.DECODE_ERROR
        assert time.monotonic() - begin < 2
    server.routes["/exact"] = respond(200, b"x" * 1000)
    assert len(fetch(server.url("/exact"))) == 1000


PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.0.192",
    "168.63.129.16",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2001:db8::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_global_is_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_connection", lambda *_: pytest.fail("it connected"))
    host = f"[{address}]" if ":" in address else address
    assert "an address that links may not reach" in fault(f"http://{host}/x", private=False)
    resolving(monkeypatch, "93.184.215.14", address)  # one bad among good ones is enough
    assert f"is {ipaddress.ip_address(address)}," in fault(
        "https://images.example/x", private=False
    )


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800::1", "64:ff9b::5db8:d70e"])
def test_a_global_address_is_not(address: str) -> None:
    assert links._is_global(ipaddress.ip_address(address))


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:7f00:1]"])
def test_no_spelling_of_this_machine_gets_through(server: Server, host: str) -> None:
    server.routes["/x"] = GOOD
    assert "may not reach" in fault(server.url("/x", host), private=False)
    assert server.seen == []


def test_a_redirect_to_this_machine_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes |= {"/x": respond(302, Location=server.url("/secret")), "/secret": GOOD}
    is_global = links._is_global
    answers = iter([True])  # as if the first hop were a public server
    monkeypatch.setattr(links, "_is_global", lambda a: next(answers, None) or is_global(a))
    assert "127.0.0.1, an address that links may not reach" in fault(
        server.url("/x"), private=False
    )
    assert server.seen == ["/x"]


def test_the_connection_goes_to_the_address_that_was_checked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes["/x"] = GOOD
    asked = resolving(monkeypatch, "127.0.0.1")
    assert fetch(server.url("/x", "images.example")) == b"body"
    assert asked.count("images.example") == 1  # a second look-up could have another answer
    assert server.headers[0]["Host"] == f"images.example:{server.port}"


def test_the_next_address_is_tried_where_one_does_not_answer(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes["/x"] = GOOD
    resolving(monkeypatch, "127.9.9.9", "127.0.0.1")
    assert fetch(server.url("/x", "images.example")) == b"body"


def test_a_name_without_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def lookup(*_: object, **__: object) -> None:
        tries.append(1)
        raise socket.gaierror(number, "told by the name server")

    monkeypatch.setattr(links.socket, "getaddrinfo", lookup)
    number: int = socket.EAI_NONAME
    assert "there is no host nowhere.example" in fault("http://nowhere.example/x")
    assert len(tries) == 1
    number = socket.EAI_AGAIN
    assert "does not answer for nowhere.example" in fault("http://nowhere.example/x")
    assert len(tries) == 1 + 4


@pytest.mark.parametrize(
    "url", ["http://", "http:///x", "http://[::1/x", "http://a b/", "https://:80"]
)
def test_what_is_no_link_is_missing(url: str) -> None:
    assert fault(url)


def test_proxies_of_the_environment_are_not_used(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.routes["/x"] = GOOD
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(server.url("/x")) == b"body"


def test_a_password_goes_to_its_host_and_into_no_message(server: Server) -> None:
    server.routes |= {"/x": respond(302, Location="/y"), "/y": respond(403)}
    url = server.url("/x?signature=hidden-too").replace("//", "//user:open-sesame@")
    text = fault(url)
    assert text == f"fetch: {server.url('/x')}: the server answers 403 Forbidden"
    assert server.headers[0]["authorization"] == "Basic dXNlcjpvcGVuLXNlc2FtZQ=="
    server.routes["/x"] = respond(302, Location=server.url("/y"))
    fault(url)
    assert "authorization" not in server.headers[-1]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for `images.example`, signed by nobody but itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "images.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("images.example")]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(encoding))
    return path


def test_tls_is_verified_for_the_name_in_the_link(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    resolving(monkeypatch, "127.0.0.1")
    with serving(context) as server:
        server.routes["/x"] = GOOD
        url = server.url("/x", "images.example", "https")
        assert "is not trusted" in fault(url)
        trusting = ssl.create_default_context(cafile=str(certificate))
        monkeypatch.setattr(links, "_tls", lambda: trusting)
        assert fetch(url) == b"body"
        assert "is not trusted" in fault(server.url("/x", "other.example", "https"))
        assert server.seen == ["/x"]
        server.routes["/slow"] = endless_drip
        slow = server.url("/slow", "images.example", "https")
        assert "not complete within the time limit" in fault(slow, seconds=0.5)
