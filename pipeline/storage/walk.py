"""Decides how the files below a folder are found: one after the other, in the order of their paths.

Nobody holds them all. A disk is walked depth first; of one folder the names are in memory at a time
(some tens of bytes each). S3 and Google Cloud Storage list in the order of paths, a thousand to a
page, and a page is in memory at a time. Others, Hugging Face's for one, are listed by fsspec's
`find`, which holds all entries at once, at about a kilobyte each.

Names that begin with `_` or `.` are left out, with all that is below them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.storage.backoff import with_backoff
from pipeline.storage.location import FileInfo, file_info

if TYPE_CHECKING:
    from pipeline.storage.location import Location

HIDDEN = ("_", ".")
Page = tuple[list[tuple[str, Mapping[str, object]]], str | None]
"""Keys of objects with what is known of them, and the token of the next page."""
NAMES = 32_768
"""Names of a folder that are Python objects at a time."""


def files_below(folder: Location) -> Iterator[FileInfo]:
    """All files below a folder, sorted by path; none if it does not exist on an object store.

    Asks the store: what an earlier listing in this process found is not used (fsspec keeps one
    filesystem for a whole process, and Hugging Face's remembers what it listed).

    Raises:
        OSError: The folder cannot be listed.
    """
    if folder.is_local:
        return _walk(folder.path, "")
    folder.fs.invalidate_cache()
    protocols = folder.fs.protocol
    names = (protocols,) if isinstance(protocols, str) else protocols
    if "s3" in names:
        return _visible(_paged(folder, _page_of_s3))
    if "gs" in names:
        return _visible(_paged(folder, _page_of_gcs))
    return _visible(_found(folder))


def _walk(folder: str, prefix: str) -> Iterator[FileInfo]:
    """All files below a local folder; symbolic links are followed, but not in cycles."""
    for name in _sorted_names(folder):
        if not name.endswith("/"):
            yield _local_file(f"{folder.rstrip('/')}/{name}", prefix + name)
        else:
            yield from _walk(f"{folder.rstrip('/')}/{name}", prefix + name)


def _sorted_names(folder: str) -> Iterator[str]:
    """The names in a folder in the order of the paths below it: folders sort with their `/`."""
    chunks: list[pa.Array] = []
    names: list[bytes] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(HIDDEN):
                continue
            is_folder = entry.is_dir()
            if is_folder and entry.is_symlink() and _is_cycle(entry.path):
                continue
            names.append(os.fsencode(entry.name) + b"/" * is_folder)
            if len(names) == NAMES:
                chunks.append(pa.array(names, pa.binary()))
                names.clear()
    found = pa.chunked_array([*chunks, pa.array(names, pa.binary())], pa.binary())
    order = pc.sort_indices(found)
    for start in range(0, len(order), NAMES):
        yield from map(os.fsdecode, found.take(order.slice(start, NAMES)).to_pylist())


def _local_file(path: str, relative: str) -> FileInfo:
    try:
        status = os.stat(path)
    except FileNotFoundError:  # a link whose target is missing
        return FileInfo(relative, 0, "")
    return FileInfo(relative, status.st_size, str(status.st_mtime_ns))


def _is_cycle(link: str) -> bool:
    """Whether a link to a folder points to a folder that contains the link."""
    here = os.path.realpath(os.path.dirname(link)) + "/"
    return here.startswith(os.path.realpath(link).rstrip("/") + "/")


def _paged(folder: Location, page_of: Callable[..., Page]) -> Iterator[FileInfo]:
    """All objects below a folder, page by page."""
    bucket, key, _ = folder.fs.split_path(folder.path)
    prefix = f"{key.rstrip('/')}/" if key else ""
    token: str | None = None
    while True:
        page, token = with_backoff(partial(page_of, folder.fs, bucket, prefix, token))
        for name, info in page:
            yield file_info(name.removeprefix(prefix), info)
        if not token:
            return


def _page_of_s3(fs: Any, bucket: str, prefix: str, token: str | None) -> Page:
    more = {"ContinuationToken": token} if token else {}
    found = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
    items = found.get("Contents", ())
    return [(item["Key"], {**item, "size": item["Size"]}) for item in items], found.get(
        "NextContinuationToken"
    )


def _page_of_gcs(fs: Any, bucket: str, prefix: str, token: str | None) -> Page:
    """A page by the JSON API; gcsfs (2026.10) has no paged listing. Can go when fsspec has one."""
    more = {"pageToken": token} if token else {}
    found = fs.call("GET", "b/{}/o", bucket, prefix=prefix, json_out=True, **more)
    page = [(item["name"], item) for item in found.get("items", ())]
    return page, found.get("nextPageToken")


def _found(folder: Location) -> Iterator[FileInfo]:
    base = folder.path.rstrip("/") + "/"
    found = with_backoff(lambda: folder.fs.find(folder.path, detail=True))
    for path in sorted(found):
        if path.startswith(base):
            yield file_info(path.removeprefix(base), found[path])


def _visible(files: Iterator[FileInfo]) -> Iterator[FileInfo]:
    """Without hidden ones, and without objects that stand for folders: they end in `/`."""
    for file in files:
        is_hidden = any(part.startswith(HIDDEN) for part in file.path.split("/"))
        if file.path and not file.path.endswith("/") and not is_hidden:
            yield file
