"""Decides where files are that no disk or store holds: in the memory of a Ray cluster.

`ray-memory://NAME/...` are files of an actor, which every process of the same Ray job can read and
write, on whatever machine. It keeps their names; what is in them are objects in Ray's object store,
which brings them to other machines and moves them to disk where memory is short. Nothing is left
when the `with` block of `ray_folder` ends, or the process that made it, in whatever way.

Files are created exclusively where that is asked for; they cannot be replaced conditionally.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from fsspec import AbstractFileSystem

from pipeline.storage.location import MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class _File:
    """A file.

    Attributes:
        body: Reference to its bytes, as a numpy array; in a list, so that Ray does not resolve it.
        size: In bytes.
        tag: Hash of its bytes.
    """

    body: list[Any]
    size: int
    tag: str

    def info(self, path: str) -> dict[str, Any]:
        return {"name": path, "size": self.size, "type": "file", "ETag": self.tag}


class _Files:
    """The actor. It runs one call after the other."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    def put(self, path: str, body: Any, tag: str, is_new: bool) -> bool:
        """Write a file, unless it should be new and is not. Returns whether it was written."""
        import ray

        if is_new and path in self._files:
            return False
        # A copy that this process owns: whoever wrote it may end before the file is read.
        self._files[path] = _File([ray.put(body)], len(body), tag)
        return True

    def get(self, path: str) -> _File | None:
        return self._files.get(path)

    def below(self, folder: str, prefix: str) -> dict[str, dict[str, Any]]:
        """The files below a folder whose path in it begins with `prefix`."""
        begin = f"{folder}/{prefix}"
        return {p: file.info(p) for p, file in self._files.items() if p.startswith(begin)}

    def remove(self, path: str) -> int:
        """Remove a file, or all below a folder. Returns how many there were."""
        gone = [name for name in self._files if name == path or name.startswith(f"{path}/")]
        for name in gone:
            del self._files[name]
        return len(gone)

    def rename(self, old: str, new: str) -> None:
        """Give files whose paths begin with `old` paths that begin with `new`."""
        for name in [name for name in self._files if name.startswith(old)]:
            self._files[new + name.removeprefix(old)] = self._files.pop(name)


class RayMemory(AbstractFileSystem):  # type: ignore[misc]
    """The files of such actors as an fsspec filesystem; it pickles."""

    protocol = (MEMORY,)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """The bytes of a file, or a range of them. Raises FileNotFoundError."""
        return bytes(self._body(path)[start:end])

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Write a file. Raises FileExistsError with the mode `create` if there is one."""
        import numpy as np

        path = self._strip_protocol(path)
        body = np.frombuffer(value, dtype=np.uint8)
        tag = hashlib.blake2b(value, digest_size=16).hexdigest()
        if not self._ask(path, "put", path, body, tag, mode == "create"):
            raise FileExistsError(path)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Size, type and tag of a file; a folder is what has files below. FileNotFoundError."""
        path = self._strip_protocol(path)
        found: _File | None = self._ask(path, "get", path)
        if found is not None:
            return found.info(path)
        if self.find(path):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        prefix: str = "",
        **_: Any,
    ) -> Any:
        """All files below a folder, or directly in it with `maxdepth=1`, sorted."""
        path = self._strip_protocol(path)
        found: dict[str, dict[str, Any]] = self._ask(path, "below", path, prefix)
        kept = {
            name: found[name]
            for name in sorted(found)
            if maxdepth is None or name.count("/") <= path.count("/") + maxdepth
        }
        return kept if detail else [*kept]

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What is directly in a folder. Raises FileNotFoundError."""
        path = self._strip_protocol(path)
        below = self.find(path, detail=True)
        if not below:
            return [self.info(path)] if detail else [self.info(path)["name"]]
        inside: dict[str, dict[str, Any]] = {}
        for name, info in below.items():
            first, is_deeper, _rest = name.removeprefix(f"{path}/").partition("/")
            child = f"{path}/{first}"
            inside[child] = {"name": child, "size": 0, "type": "directory"} if is_deeper else info
        return [*inside.values()] if detail else [*inside]

    def rm_file(self, path: str) -> None:
        """Remove a file. Raises FileNotFoundError."""
        self.rm(path)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove a file, or a folder. Raises FileNotFoundError."""
        path = self._strip_protocol(path)
        if not self._ask(path, "remove", path):
            raise FileNotFoundError(path)

    def rename(self, old: str, new: str) -> None:
        """Give all files whose paths begin with `old` paths that begin with `new`."""
        self._ask(old, "rename", old, new)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing: a folder is there with its first file."""

    mkdir = makedirs

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """A file to read; it shares the object store's memory."""
        if mode != "rb":
            raise NotImplementedError("files are written whole, by `pipe_file`")
        found = self._found(path)
        reader = _Reader(pa.py_buffer(_body_of(found)))
        reader.details = found.info(path)
        return reader

    def _body(self, path: str) -> memoryview:
        return _body_of(self._found(path))

    def _found(self, path: str) -> _File:
        path = self._strip_protocol(path)
        found: _File | None = self._ask(path, "get", path)
        if found is None:
            raise FileNotFoundError(path)
        return found

    def _ask(self, path: str, method: str, *arguments: Any) -> Any:
        """Call the actor of a path. Raises FileNotFoundError if it is not there any more."""
        import ray

        name = path.partition("/")[0]
        try:
            return ray.get(getattr(_actor(name), method).remote(*arguments))
        except (ValueError, ray.exceptions.RayActorError):
            _actor.cache_clear()  # there may be a new one
            raise FileNotFoundError(
                f"{MEMORY}://{path} went with the process that made it"
            ) from None


class _Reader(pa.BufferReader):  # type: ignore[misc]
    """Reads a file, and says which version of it in `details`, as other stores' files do."""

    details: Mapping[str, Any]


def _body_of(file: _File) -> memoryview:
    import ray

    return memoryview(ray.get(file.body[0]))


@contextlib.contextmanager
def ray_folder() -> Iterator[str]:
    """The URI of an empty folder, whose files are removed at the end; once Ray runs."""
    name, folder = _start(), uuid.uuid4().hex
    try:
        yield f"{MEMORY}://{name}/{folder}"
    finally:
        with contextlib.suppress(FileNotFoundError):  # it is empty
            RayMemory().rm(f"{name}/{folder}")


def _start() -> str:
    """Start the actor of this job, unless it runs. Returns its name.

    There is one for all folders, as starting a process takes a second.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    this = ray.get_runtime_context()
    # Every cluster has a job 1, and a cluster may have been started here before.
    name = f"gemma3-batch-{this.get_job_id()}-{this.get_node_id()[:8]}"
    if not _is_running(name):
        _kept[name] = (
            ray.remote(_Files)
            .options(
                name=name,
                num_cpus=0,
                # The driver's machine: if that is lost, so is the run.
                scheduling_strategy=NodeAffinitySchedulingStrategy(this.get_node_id(), soft=True),
            )
            .remote()
        )
    return name


def _is_running(name: str) -> bool:
    import ray

    try:
        return name in _kept and ray.get(_kept[name].get.remote("")) is None
    except ray.exceptions.RayActorError:
        return False


_kept: dict[str, Any] = {}
"""Ray ends an actor when the first handle to it is gone."""


@functools.lru_cache
def _actor(name: str) -> Any:
    """The actor of that name in this job. Raises ValueError if there is none."""
    import ray

    return ray.get_actor(name)
