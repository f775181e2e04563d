"""A small Google Cloud Storage for the tests: the JSON API's calls that gcsfs makes, in memory.

Google's own test server is no package, and gcp-storage-emulator (2026.7) ignores the conditions
that matter here. What a call takes and answers follows
https://cloud.google.com/storage/docs/json_api/v1; every object's generation is one of a kind, and a
condition is kept under a lock.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests import web

CREATED = "2026-01-01T00:00:00.000Z"
PAGE = 1000
OBJECT = re.compile(r"(?:/download)?/storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)")
BUCKET = re.compile(r"/storage/v1/b/(?P<bucket>[^/]+)")
OBJECTS = re.compile(r"(?P<upload>/upload)?/storage/v1/b/(?P<bucket>[^/]+)/o")


@dataclass(frozen=True)
class Stored:
    """An object: its body and the number of this version of it."""

    body: bytes
    generation: int


@dataclass
class Objects:
    """All objects, by bucket and name."""

    found: dict[tuple[str, str], Stored] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    generations: Iterator[int] = field(default_factory=lambda: itertools.count(1_700_000_000))

    def put(self, bucket: str, name: str, body: bytes, condition: str | None) -> bool:
        """Store it, where the condition (a generation, 0 for none) holds."""
        with self.lock:
            before = self.found.get((bucket, name))
            if condition is not None and int(condition) != (before.generation if before else 0):
                return False
            self.found[bucket, name] = Stored(body, next(self.generations))
            return True

    def listing(self, bucket: str, wanted: Mapping[str, str]) -> dict[str, Any]:
        """A page of the names that begin with `prefix`, cut at the first `delimiter` after it."""
        prefix, delimiter = wanted.get("prefix", ""), wanted.get("delimiter", "")
        with self.lock:
            all_names = (name for where, name in sorted(self.found) if where == bucket)
            names = [name for name in all_names if name.startswith(prefix)]
            start = int(wanted.get("pageToken") or 0)
            page = names[start : start + int(wanted.get("maxResults") or PAGE)]
            items, folders = [], set()
            for name in page:
                below, cut, _ = name[len(prefix) :].partition(delimiter or "\0")
                if delimiter and cut:
                    folders.add(prefix + below + cut)
                else:
                    items.append(described(bucket, name, self.found[bucket, name]))
        more = {"nextPageToken": str(start + len(page))} if start + len(page) < len(names) else {}
        return {"items": items, "prefixes": sorted(folders), **more}


def described(bucket: str, name: str, stored: Stored) -> dict[str, Any]:
    """An object's metadata."""
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "size": str(len(stored.body)),
        "generation": str(stored.generation),
        "metageneration": "1",
        "etag": f"etag-{stored.generation}",
        "md5Hash": base64.b64encode(hashlib.md5(stored.body).digest()).decode(),
        "contentType": web.BINARY,
        "timeCreated": CREATED,
        "updated": CREATED,
    }


class Handler(web.Answering):
    """One request."""

    objects: Objects

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        if listing := OBJECTS.fullmatch(url.path):
            self.answer(self.objects.listing(listing["bucket"], query))
            return
        bucket = BUCKET.fullmatch(url.path)
        if bucket and any(where == bucket["bucket"] for where, _ in self.objects.found):
            self.answer({"name": bucket["bucket"]})
            return
        found = self._object(url.path)
        if found is None:
            self.refuse(HTTPStatus.NOT_FOUND)
        elif query.get("alt") == "media":
            self.send_range(found[2].body, {})
        else:
            self.answer(described(*found))

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        upload = OBJECTS.fullmatch(url.path)
        if upload is None or not upload["upload"]:
            self.refuse(HTTPStatus.NOT_IMPLEMENTED)
            return
        name, body = query.get("name", ""), sent
        if query["uploadType"] == "multipart":
            name, body = _parts(sent, self.headers["Content-Type"])
        bucket = upload["bucket"]
        if self.objects.put(bucket, name, body, query.get("ifGenerationMatch")):
            stored = self.objects.found[bucket, name]
            self.answer(described(bucket, name, stored))
        else:
            self.refuse(HTTPStatus.PRECONDITION_FAILED)

    def do_DELETE(self) -> None:
        found = self._object(urlsplit(self.path).path)
        if found is None or self.objects.found.pop(found[:2], None) is None:
            self.refuse(HTTPStatus.NOT_FOUND)
        else:
            self.send(b"", HTTPStatus.NO_CONTENT, {})

    def _object(self, path: str) -> tuple[str, str, Stored] | None:
        named = OBJECT.fullmatch(path)
        if named is None:
            return None
        key = named["bucket"], unquote(named["name"])
        stored = self.objects.found.get(key)
        return stored and (*key, stored)


def _parts(sent: bytes, content_type: str) -> tuple[str, bytes]:
    """Name and body of an upload that has its metadata in front."""
    boundary = content_type.split("boundary=")[1].strip("\"'").encode()
    _, metadata, rest = sent.split(b"--" + boundary, 2)
    name: str = json.loads(metadata.partition(b"\n\n")[2])["name"]
    body = rest.partition(b"\n\n")[2]
    return name, body[: body.rindex(b"\n--" + boundary)]


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """An empty server for as long as the block; gives its URL. Buckets need not be made."""
    with web.serving(type("Handler", (Handler,), {"objects": Objects()})) as url:
        yield url
