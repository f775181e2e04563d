"""How files come to be in OUTPUT: wholly or not at all, and only once where it matters.

    create       makes a file unless its name is taken: a commit, a plan, a driver's number
    replace      changes a file unless somebody else has changed it since
    write_whole  writes a file that nobody races for

On a disk: write, fsync, link (or rename under a lock). On an object store: one plain request with a
condition. Never a multipart upload: some stores ignore the condition there (Ceph RGW 16). `probe`
finds out whether a store keeps the condition at all.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import uuid
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin

from pipeline.contract.errors import UserError, one_line
from pipeline.storage.backoff import with_backoff
from pipeline.storage.location import INTERNAL, Location

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE_PUT = 5 * 2**30
"""Most bytes of one PUT on S3."""
PRECONDITION_FAILED = 412


def create(where: Location, body: bytes) -> bool:
    """Create a file with this content.

    Returns:
        Whether this call created it. Of several that try at once at most one is told so; where a
        reply was lost, none may be: compare the content then.

    Raises:
        OSError: It cannot be written.
    """
    with draft_for(where) as draft:
        with open(draft, "wb") as file:
            file.write(body)
        return publish(draft, where)


@contextlib.contextmanager
def draft_for(where: Location) -> Iterator[str]:
    """A path on this machine to write to before `publish` or `republish`; gone afterwards."""
    if where.is_local:
        folder = os.path.join(_output_of(where.path), INTERNAL, "drafts")
        os.makedirs(folder, exist_ok=True)
    else:
        folder = tempfile.gettempdir()
    draft = os.path.join(folder, f"gemma3-batch-{uuid.uuid4().hex}")
    try:
        yield draft
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)


def publish(draft: str, where: Location) -> bool:
    """Create a file from a draft, unless its name is taken. See `create`."""
    if not where.is_local:
        return _put(where, _body(draft), IfNoneMatch="*")
    _sync_file(draft)
    os.makedirs(where.parent.path, exist_ok=True)
    try:
        os.link(draft, where.path)
    except FileExistsError:
        return False
    _sync_folder(where.parent.path)
    return True


def republish(draft: str, where: Location, stamp: str) -> bool:
    """Replace a file by a draft, unless it is another than the one with this stamp.

    Returns:
        Whether this call replaced it.
    """
    if not where.is_local:
        return _put(where, _body(draft), IfMatch=stamp)
    _sync_file(draft)
    with _lock(where):
        try:
            if where.info().stamp != stamp:
                return False
        except FileNotFoundError:
            return False
        os.rename(draft, where.path)
    _sync_folder(where.parent.path)
    return True


def write_whole(where: Location, body: bytes, *, sync: bool = True) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part of it.

    Args:
        where: The file.
        body: Its content.
        sync: Wait until it would outlive a power loss (on a disk).
    """
    if not where.is_local:
        with_backoff(lambda: where.fs.pipe_file(where.path, body, chunksize=ONE_PUT))
        return
    os.makedirs(where.parent.path, exist_ok=True)
    draft = f"{where.path}.{uuid.uuid4().hex}.tmp"
    with open(draft, "wb") as file:
        file.write(body)
    if sync:
        _sync_file(draft)
    os.rename(draft, where.path)


def remove(where: Location) -> None:
    """Delete a file; one that is gone already is fine."""
    with contextlib.suppress(FileNotFoundError):
        with_backoff(lambda: where.fs.rm_file(where.path))


def remove_folder(where: Location) -> None:
    """Delete a folder with all that is in it; one that is gone already is fine."""
    with contextlib.suppress(FileNotFoundError):
        with_backoff(lambda: where.fs.rm(where.path, recursive=True))


def probe(output: Location) -> None:
    """Find out whether the store of OUTPUT creates exclusively and replaces conditionally.

    Raises:
        UserError: It does not, or it cannot be written to.
    """
    where = output / INTERNAL / "probe" / uuid.uuid4().hex
    try:
        kept = create(where, b"first") and not create(where, b"second")
        remove(where)
    except Exception as error:  # the store's client has errors of many kinds
        raise UserError(f"OUTPUT {output} cannot be written to: {one_line(error)}") from None
    if not kept:
        raise UserError(
            f"the store of OUTPUT {output} ignores conditional writes, so two runs at once could "
            "double rows; use another store, or give --single-driver if only one will ever write"
        )


def _put(where: Location, body: bytes, **condition: str) -> bool:
    """One conditional PUT. Returns whether the condition held."""
    size = len(body)
    if size >= ONE_PUT:
        raise ValueError(
            f"{where} would have {size:,} bytes, more than one PUT takes; lower unit_rows"
        )
    try:
        with_backoff(lambda: _conditional_put(where, body, condition))
    except Exception as error:
        is_gone = "IfMatch" in condition and isinstance(error, FileNotFoundError)
        if is_gone or _is_precondition(error):
            return False
        raise
    return True


def _conditional_put(where: Location, body: bytes, condition: dict[str, str]) -> None:
    if "IfNoneMatch" in condition:
        where.fs.pipe_file(where.path, body, mode="create", chunksize=ONE_PUT)
    elif "s3" in where.fs.protocol:
        where.fs.pipe_file(where.path, body, chunksize=ONE_PUT, **condition)
    else:
        _replace_on_gcs(where, body, condition["IfMatch"])


def _replace_on_gcs(where: Location, body: bytes, generation: str) -> None:
    """Which gcsfs (2026.10) has no function for, but its calls."""
    bucket, name, _ = where.fs.split_path(where.path)
    where.fs.call(
        "POST",
        urljoin(where.fs.base, "/upload/storage/v1/b/{}/o"),
        bucket,
        uploadType="media",
        name=name,
        ifGenerationMatch=generation,
        data=body,
    )


def _is_precondition(error: BaseException | None) -> bool:
    while error is not None:
        response: Any = getattr(error, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = response.get("Error", {}).get("Code")
            if status == PRECONDITION_FAILED or code in ("PreconditionFailed", "412"):
                return True
        if (
            isinstance(error, FileExistsError)
            or getattr(error, "code", None) == PRECONDITION_FAILED
        ):
            return True
        error = error.__cause__
    return False


def _body(draft: str) -> bytes:
    with open(draft, "rb") as file:
        return file.read()


def _output_of(path: str) -> str:
    """The OUTPUT a local path lies in: the folder above `INTERNAL`, or of the file itself."""
    before, found, _ = path.partition(f"/{INTERNAL}/")
    return before if found else os.path.dirname(path)


@contextlib.contextmanager
def _lock(where: Location) -> Iterator[None]:
    """One replacement at a time in an OUTPUT on a disk."""
    folder = os.path.join(_output_of(where.path), INTERNAL)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "replace.lock"), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync_file(path: str) -> None:
    file: BinaryIO
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: str) -> None:
    """Bring a folder's entries to the disk, so that a new name outlives a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
