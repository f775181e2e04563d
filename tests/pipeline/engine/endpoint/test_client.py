"""How a server is reached: past proxies, and with its key alone."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.engine.endpoint.client import Address, Client, Reply
from tests.pipeline.server import respond, serving

ELSEWHERE = "http://elsewhere.invalid/v1"


def get(url: str) -> Reply:
    async def asked() -> Reply:
        client = Client(Address(url, SecretStr("sk-of-the-server")), 10.0)
        try:
            return await client.get("/models")
        finally:
            await client.aclose()

    return asyncio.run(asked())


def test_the_key_is_sent_whatever_netrc_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving() as server:
        server.routes["/v1/models"] = respond(200, b"{}")
        assert get(server.url("/v1")).status == 200
    assert server.headers[0]["Authorization"] == "Bearer sk-of-the-server"


@pytest.mark.parametrize(
    ("login", "sent"),
    [("", None), ("me:p%40ss@", f"Basic {base64.b64encode(b'me:p@ss').decode()}")],
)
def test_a_proxy_of_the_environment_is_used(
    login: str, sent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving() as server:
        server.routes[f"{ELSEWHERE}/models"] = respond(200, b"{}")
        monkeypatch.setenv("http_proxy", f"http://{login}127.0.0.1:{server.port}")
        assert get(ELSEWHERE).status == 200
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        server.routes["/v1/models"] = respond(200, b"{}")
        assert get(server.url("/v1")).status == 200
    assert server.seen == [f"{ELSEWHERE}/models", "/v1/models"]
    assert server.headers[0].get("Proxy-Authorization") == sent
    assert server.headers[0]["Authorization"] == "Bearer sk-of-the-server"
    assert "Proxy-Authorization" not in server.headers[1]
