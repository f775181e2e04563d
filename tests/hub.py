"""A small Hugging Face Hub for the tests: models and datasets, each from a folder.

What a call takes and answers follows https://huggingface.co/docs/hub/api. A repository's `main` is
what its folder holds when it is asked for: a file that changes makes a new commit, and commits that
were asked for before stay. Commits that are sent (`HfApi.create_commit`, `upload_file`) are written
to the folder. Files travel inside a commit up to `inline_bytes`, larger ones by Git LFS, which
clients use with `HF_HUB_DISABLE_XET=1` (there is no Xet here).

    with hub.serving(folder) as url:                    # one dataset, REPO
    with hub.Hub().running() as url:                    # several repositories: `Hub.add`

`HF_ENDPOINT=url` points a process at it; `HF_HUB_OFFLINE` must not be set there.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests import web

REPO = "us/images"
TOKEN = "hf_tests"  # of the one user there is
USER = "us"
INLINE_BYTES = 10_000_000

Tree = Mapping[str, bytes]
"""The files of a commit by path."""
PREFIXES = {"models": "", "datasets": "datasets/"}
"""How a repository's URLs begin that are not the API's."""
ID = r"(?P<name>[\w.-]+/[\w.-]+)"
API = rf"/api/(?P<kind>models|datasets)/{ID}"


@dataclass
class Repository:
    """A model or a dataset.

    Attributes:
        folder: What `main` holds.
        is_gated: Whether its files are for those only that accepted its terms.
        is_private: Whether only its owner sees it.
    """

    folder: Path
    is_gated: bool = False
    is_private: bool = False
    _commits: dict[str, Tree] = field(default_factory=dict)
    _head: tuple[object, str] = (None, "")

    @property
    def head(self) -> str:
        """The newest commit's hash."""
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        if self._head[0] != stats:
            tree = {str(path.relative_to(self.folder)): path.read_bytes() for path in files}
            listed = json.dumps({path: blob_id(body) for path, body in tree.items()})
            sha = hashlib.sha1(listed.encode()).hexdigest()
            self._commits[sha] = tree
            self._head = stats, sha
        return self._head[1]

    def resolve(self, revision: str) -> str | None:
        """The commit that a revision is; None if there is none."""
        if revision == "main":
            return self.head
        return revision if revision in self._commits else None

    def tree(self, commit: str) -> Tree:
        """The files of a commit."""
        return self._commits[commit]

    def write(self, path: str, body: bytes) -> None:
        """Put a file into `main`."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)

    def delete(self, path: str) -> None:
        """Take a file or a folder out of `main`."""
        file = self.folder / path
        shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)


@dataclass
class Hub:
    """Repositories, and what was asked of them.

    Attributes:
        inline_bytes: Larger files are uploaded by Git LFS.
        new: Where repositories are made that clients create; None refuses that.
        log: The requests so far: method and path.
    """

    inline_bytes: int = INLINE_BYTES
    new: Path | None = None
    log: list[str] = field(default_factory=list)
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, folder: Path, kind: str = "datasets", **about: bool) -> Repository:
        """A repository with what a folder holds; `kind` is `models` or `datasets`."""
        self.repositories[kind, name] = Repository(folder, **about)
        return self.repositories[kind, name]

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve for as long as the block; gives the URL."""
        with web.serving(type("Handler", (Handler,), {"hub": self})) as url:
            yield url


@contextlib.contextmanager
def serving(root: Path) -> Iterator[str]:
    """The dataset `REPO` with a folder's files, for as long as the block; gives the Hub's URL."""
    hub = Hub()
    hub.add(REPO, root)
    with hub.running() as url:
        yield url


def blob_id(body: bytes) -> str:
    """As git names a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, **headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers


class Handler(web.Answering):
    """One request."""

    hub: Hub

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def _serve(self, method: str) -> None:
        self.__dict__.pop("sent", None)  # of the connection's last request
        path = unquote(urlsplit(self.path).path)
        self.hub.log.append(f"{self.command} {path}")
        try:
            _ = self.sent  # what is not read would be taken for the next request
            for of, pattern, answer in ROUTES:
                if of == method and (found := re.fullmatch(pattern, path)):
                    answer(self, **found.groupdict())
                    return
            raise RefusedError(HTTPStatus.NOT_FOUND)
        except RefusedError as refused:
            self.refuse(refused.status, **refused.headers)

    @cached_property
    def sent(self) -> bytes:
        """The request's body."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def user(self) -> None:
        """Who the token belongs to."""
        self._check_token()
        self.answer({"type": "user", "name": USER, "fullname": USER, "orgs": [], "auth": {}})

    def create(self) -> None:
        """Make a repository."""
        self._check_token()
        wanted = json.loads(self.sent)
        name, kind = f"{wanted['organization'] or USER}/{wanted['name']}", f"{wanted['type']}s"
        if (kind, name) in self.hub.repositories:
            raise RefusedError(HTTPStatus.CONFLICT)
        if self.hub.new is None:
            raise RefusedError(HTTPStatus.FORBIDDEN)
        folder = self.hub.new / kind / name
        folder.mkdir(parents=True)
        is_private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.hub.add(name, folder, kind, is_private=is_private)
        self.answer({"url": self._url(kind, name), "name": name})

    def valid_yaml(self) -> None:
        """What is wrong with a card's metadata."""
        self.answer({"errors": [], "warnings": []})

    def about(self, kind: str, name: str, revision: str | None = None) -> None:
        """What there is to know of a repository at a revision."""
        repository, commit = self._found(kind, name, revision or "main")
        files = [{"rfilename": path} for path in repository.tree(commit)]
        gated = "manual" if repository.is_gated else False
        about = {"id": name, "sha": commit, "private": repository.is_private, "gated": gated}
        self.answer({**about, "siblings": files, "tags": [], "downloads": 0, "likes": 0})

    def list_tree(self, kind: str, name: str, revision: str, path: str | None) -> None:
        """The files and folders below a folder."""
        repository, commit = self._found(kind, name, revision)
        folder = f"{path}/" if path else ""
        asked = {key.lower(): values[0] for key, values in self._query().items()}
        is_deep = asked.get("recursive", "").lower() in ("true", "1")
        found = _entries(repository.tree(commit))
        below = [entry for entry in found if entry["path"].startswith(folder)]
        if folder and not below:
            raise RefusedError(HTTPStatus.NOT_FOUND, X_Error_Code="EntryNotFound")
        if not is_deep:
            below = [entry for entry in below if "/" not in entry["path"][len(folder) :]]
        self.answer(below)

    def paths_info(self, kind: str, name: str, revision: str) -> None:
        """The entries of some paths, of those that there are."""
        repository, commit = self._found(kind, name, revision)
        asked = parse_qs(self.sent.decode())["paths"]
        found = _entries(repository.tree(commit))
        self.answer([entry for entry in found if entry["path"] in asked])

    def file(self, name: str, revision: str, path: str, kind: str = "models") -> None:
        """A file's bytes, or a part of them."""
        repository, commit = self._found(kind.strip("/"), name, revision)
        if repository.is_gated and not self._has_token():
            raise RefusedError(HTTPStatus.UNAUTHORIZED, X_Error_Code="GatedRepo")
        body = repository.tree(commit).get(path)
        if body is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, X_Error_Code="EntryNotFound")
        self.send_range(body, {"ETag": f'"{blob_id(body)}"', "X-Repo-Commit": commit})

    def preupload(self, kind: str, name: str, revision: str) -> None:
        """How each file is to be sent."""
        repository, commit = self._found(kind, name, revision, writes=True)
        tree = repository.tree(commit)
        answers = []
        for file in json.loads(self.sent)["files"]:
            known = tree.get(file["path"])
            mode = "lfs" if file["size"] > self.hub.inline_bytes else "regular"
            oid = None if known is None else blob_id(known)
            about = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}
            answers.append(about)
        self.answer({"files": answers})

    def lfs_batch(self, name: str, kind: str = "models") -> None:
        """Where large files are to be sent; those that are here need not be."""
        self._found(kind.strip("/"), name, "main", writes=True)
        objects = json.loads(self.sent)["objects"]
        for each in objects:
            if each["oid"] not in self.hub.large:
                href = f"http://{self.headers['Host']}/lfs/{each['oid']}"
                each["actions"] = {"upload": {"href": href}}
        self.answer({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        """Take a large file."""
        if hashlib.sha256(self.sent).hexdigest() != oid:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY)
        self.hub.large[oid] = self.sent
        self.send(b"", HTTPStatus.OK, {})

    def commit(self, kind: str, name: str, revision: str) -> None:
        """Write a commit to `main`."""
        repository, commit = self._found(kind, name, revision, writes=True)
        lines = [json.loads(line) for line in self.sent.splitlines()]
        for line in lines:
            parent = line["value"].get("parentCommit")
            if line["key"] == "header" and parent and parent != commit:
                raise RefusedError(HTTPStatus.PRECONDITION_FAILED)
        for line in lines:
            self._apply(repository, line["key"], line["value"])
        commit = repository.head
        url = f"{self._url(kind, name)}/commit/{commit}"
        self.answer({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def _apply(self, repository: Repository, key: str, value: Mapping[str, Any]) -> None:
        if key == "file":
            repository.write(value["path"], base64.b64decode(value["content"]))
        elif key == "lfsFile":
            repository.write(value["path"], self.hub.large[value["oid"]])
        elif key in ("deletedFile", "deletedFolder"):
            repository.delete(value["path"])

    def _found(
        self, kind: str, name: str, revision: str, *, writes: bool = False
    ) -> tuple[Repository, str]:
        """A repository, and the commit that a revision is."""
        repository = self.hub.repositories.get((kind, name))
        if writes or (repository is not None and repository.is_private):
            self._check_token()
        if repository is None:
            # As the Hub does: who is not known is not told whether there is a repository.
            status = HTTPStatus.NOT_FOUND if self._has_token() else HTTPStatus.UNAUTHORIZED
            raise RefusedError(status, X_Error_Code="RepoNotFound")
        commit = repository.resolve(revision)
        if commit is None:
            raise RefusedError(HTTPStatus.NOT_FOUND, X_Error_Code="RevisionNotFound")
        return repository, commit

    def _check_token(self) -> None:
        if not self._has_token():
            raise RefusedError(HTTPStatus.UNAUTHORIZED, X_Error_Code="RepoNotFound")

    def _has_token(self) -> bool:
        return bool(self.headers.get("Authorization") == f"Bearer {TOKEN}")

    def _url(self, kind: str, name: str) -> str:
        return f"http://{self.headers['Host']}/{PREFIXES[kind]}{name}"

    def _query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query)


ROUTES = (
    ("GET", r"/api/whoami-v2", Handler.user),
    ("POST", r"/api/repos/create", Handler.create),
    ("POST", r"/api/validate-yaml", Handler.valid_yaml),
    ("GET", API, Handler.about),
    ("GET", rf"{API}/revision/(?P<revision>.+)", Handler.about),
    ("GET", rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?", Handler.list_tree),
    ("POST", rf"{API}/paths-info/(?P<revision>[^/]+)", Handler.paths_info),
    ("POST", rf"{API}/preupload/(?P<revision>[^/]+)", Handler.preupload),
    ("POST", rf"{API}/commit/(?P<revision>[^/]+)", Handler.commit),
    ("POST", rf"/(?P<kind>datasets/){ID}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("POST", rf"/{ID}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT", r"/lfs/(?P<oid>\w+)", Handler.lfs_put),
    ("GET", rf"/(?P<kind>datasets/){ID}/resolve/(?P<revision>[^/]+)/(?P<path>.*)", Handler.file),
    ("GET", rf"/{ID}/resolve/(?P<revision>[^/]+)/(?P<path>.*)", Handler.file),
)
"""Method, path and what answers."""


def _entries(tree: Tree) -> list[dict[str, Any]]:
    """The files of a tree and the folders they are in, as the Hub lists them."""
    folders = {str(parent) for path in tree for parent in Path(path).parents} - {"."}
    found = [
        {"type": "directory", "oid": blob_id(path.encode()), "size": 0, "path": path}
        for path in folders
    ]
    for path, body in tree.items():
        found.append({"type": "file", "oid": blob_id(body), "size": len(body), "path": path})
    return sorted(found, key=lambda entry: str(entry["path"]))
