"""A small Hugging Face Hub for the tests: the calls for reading one dataset, from a folder.

What a call takes and answers follows https://huggingface.co/docs/hub/api.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests import web

SHA = "0123456789abcdef0123456789abcdef01234567"
REPO = "us/images"
CALL = re.compile(rf"/api/datasets/{REPO}(?:/(?P<what>[a-z-]+)/main(?:/(?P<path>.*))?)?")
FILE = re.compile(rf"/datasets/{REPO}/resolve/main/(?P<path>.*)")


class Handler(web.Answering):
    """One request."""

    root: Path

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if (call := CALL.fullmatch(path)) is not None:
            self._tell(call["what"] or "revision", call["path"] or "")
        elif (named := FILE.fullmatch(path)) and (file := self.root / named["path"]).is_file():
            body = file.read_bytes()
            self.send_range(body, {"ETag": f'"{_oid(body)}"', "X-Repo-Commit": SHA})
        else:
            self._miss(path)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        call = CALL.fullmatch(unquote(urlsplit(self.path).path))
        sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if call is None or call["what"] != "paths-info":
            self._miss(self.path)
            return
        asked = (self.root / path for path in parse_qs(sent)["paths"])
        self.answer([self._described(path) for path in asked if path.exists()])

    def _tell(self, what: str, path: str) -> None:
        folder = self.root / path
        if what == "revision":
            self.answer({"id": REPO, "sha": SHA, "private": False, "siblings": [], "tags": []})
        elif what == "tree" and folder.is_dir():
            is_deep = "recursive=true" in self.path.lower()
            found = folder.rglob("*") if is_deep else folder.glob("*")
            self.answer([self._described(path) for path in sorted(found)])
        else:
            self._miss(self.path)

    def _miss(self, path: str) -> None:
        what = "Entry" if f"datasets/{REPO}/" in path else "Repo"
        self.refuse(HTTPStatus.NOT_FOUND, X_Error_Code=f"{what}NotFound")

    def _described(self, path: Path) -> dict[str, Any]:
        relative = str(path.relative_to(self.root))
        if path.is_dir():
            return {
                "type": "directory",
                "oid": _oid(relative.encode()),
                "size": 0,
                "path": relative,
            }
        body = path.read_bytes()
        return {"type": "file", "oid": _oid(body), "size": len(body), "path": relative}


def _oid(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()


@contextlib.contextmanager
def serving(root: Path) -> Iterator[str]:
    """The dataset `REPO` with a folder's files, for as long as the block; gives the Hub's URL."""
    with web.serving(type("Handler", (Handler,), {"root": root})) as url:
        yield url
