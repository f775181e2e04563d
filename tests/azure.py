"""A small Azure Blob Storage for the tests: containers are folders, and can be read and listed.

What a call takes and answers follows https://learn.microsoft.com/rest/api/storageservices. Who asks
is not looked at, but an account can be made to refuse everybody.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests import web

ACCOUNT = "tests"
KEY = "a2V5"
XML = {"Content-Type": "application/xml"}
WHEN = "Mon, 01 Jan 2024 00:00:00 GMT"
PATH = re.compile(rf"/{ACCOUNT}/(?P<container>[^/]+)(?:/(?P<blob>.+))?")


class Handler(web.Answering):
    """One request."""

    root: Path
    refuses: str = ""

    def do_GET(self) -> None:
        found = PATH.fullmatch(unquote(urlsplit(self.path).path))
        container = found and self.root / found["container"]
        if self.refuses:
            self._refuse(HTTPStatus.FORBIDDEN, self.refuses)
        elif not found or not container or not container.is_dir():
            self._refuse(HTTPStatus.NOT_FOUND, "ContainerNotFound")
        elif not found["blob"]:
            self._list(container)
        elif not (container / found["blob"]).is_file():
            self._refuse(HTTPStatus.NOT_FOUND, "BlobNotFound")
        else:
            self._send(container / found["blob"])

    do_HEAD = do_GET

    def _send(self, file: Path) -> None:
        body = file.read_bytes()
        if "x-ms-range" in self.headers:
            self.headers["Range"] = self.headers["x-ms-range"]
        about = {"ETag": f'"{_etag(body)}"', "Last-Modified": WHEN, "x-ms-blob-type": "BlockBlob"}
        self.send_range(body, about)

    def _list(self, container: Path) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        if asked.get("comp") != ["list"]:
            self.send(b"", HTTPStatus.OK, {"ETag": '"0"', "Last-Modified": WHEN})
            return
        prefix = asked.get("prefix", [""])[0]
        files = sorted(path for path in container.rglob("*") if path.is_file())
        named = ((str(path.relative_to(container)), path.read_bytes()) for path in files)
        blobs = "".join(
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{WHEN}</Last-Modified>"
            f"<Etag>{_etag(body)}</Etag><Content-Length>{len(body)}</Content-Length>"
            "<Content-Type>application/octet-stream</Content-Type><BlobType>BlockBlob</BlobType>"
            "</Properties></Blob>"
            for name, body in named
            if name.startswith(prefix)
        )
        start = '<?xml version="1.0" encoding="utf-8"?><EnumerationResults'
        start += f' ContainerName="{container.name}">'
        text = f"{start}<Blobs>{blobs}</Blobs><NextMarker /></EnumerationResults>"
        self.send(text.encode(), HTTPStatus.OK, XML)

    def _refuse(self, status: HTTPStatus, code: str) -> None:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}.</Message></Error>"
        self.send(text.encode(), status, {**XML, "x-ms-error-code": code})


def _etag(body: bytes) -> str:
    return f"0x{hashlib.sha1(body).hexdigest()[:16].upper()}"


@contextlib.contextmanager
def serving(root: Path, refuses: str = "") -> Iterator[str]:
    """An account whose containers are a folder's folders; gives the connection string.

    Args:
        root: The folder.
        refuses: The code of the error with which every request is answered.
    """
    handler = type("Handler", (Handler,), {"root": root, "refuses": refuses})
    with web.serving(handler) as url:
        yield (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint={url}/{ACCOUNT};"
        )
