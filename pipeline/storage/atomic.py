"""Decides how files are written to OUTPUT: whole or not at all, and exclusively where drivers race.

    create, create_from  make a file unless its name is taken: a part, a plan, a driver's epoch
    replace_from         replaces a file unless it has changed since it was looked at
    overwrite            writes a file that no two drivers write

On a disk: write, fsync, then link, or rename under a lock. On an object store: one conditional PUT
(`If-None-Match`, `If-Match`; on GCS `ifGenerationMatch`), never a multipart upload, for which Ceph
RGW 16 ignores the condition. `probe` finds out whether a store supports these conditions at all.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
import uuid
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin

from pipeline.contract.errors import UserError, one_line
from pipeline.storage.access import write_fix
from pipeline.storage.backoff import with_backoff
from pipeline.storage.location import INTERNAL, Location

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE_PUT = 5 * 2**30
"""Most bytes of one PUT on S3."""
PRECONDITION_FAILED = 412
PROBE = "probe-"
"""How the files are called that are written to see whether one can write; each is removed at once.

They lie in no folder of their own, which another driver could remove meanwhile."""
TRIES = 20
"""Attempts at what another driver may cross on a disk."""
CROSSED_S = 0.001
"""Pause after the second of them; each further one is longer by as much."""
DRAFTS = "drafts"
"""Folder below `INTERNAL`, on a disk, of files that are not whole yet."""
DRAFT = re.compile("gemma3-batch-[0-9a-f]{32}")
"""Their names."""
LOCK = "replace.lock"
"""File below `INTERNAL`, on a disk, under whose lock files are replaced."""

NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What `link` says on a disk without hard links: exFAT, a bucket that is mounted."""
WILDCARDS = re.compile(r"[*?\[]")


def create(where: Location, body: bytes) -> bool:
    """Create a file with this content, unless its name is taken.

    Returns:
        Whether this call created it. Of several concurrent calls at most one returns True; where a
        reply was lost, none may: compare the content then.

    Raises:
        ValueError: The body is too large for one PUT.
        OSError: It cannot be written.
    """
    with draft_for(where) as draft:
        with open(draft, "wb") as file:
            file.write(body)
        return create_from(draft, where)


@contextlib.contextmanager
def draft_for(where: Location) -> Iterator[str]:
    """A local path to write to before `create_from` or `replace_from`; removed afterwards."""
    folder = _folder_of_drafts(where)
    os.makedirs(folder, exist_ok=True)
    with _removed_afterwards(os.path.join(folder, f"gemma3-batch-{uuid.uuid4().hex}")) as draft:
        yield draft


def remove_drafts(output: Location, older_than: float) -> None:
    """Remove drafts that processes of this machine left behind which were killed.

    Args:
        output: OUTPUT; all drafts of object stores lie in one folder.
        older_than: Seconds from which one belongs to no process that still runs.
    """
    folder = _folder_of_drafts(output / INTERNAL)
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as drafts:
        for draft in drafts:
            with contextlib.suppress(OSError):  # it is gone by now, or another user's
                age = time.time() - draft.stat(follow_symlinks=False).st_mtime
                if DRAFT.fullmatch(draft.name) and age > older_than:
                    os.unlink(draft.path)


def _folder_of_drafts(where: Location) -> str:
    """Where a draft of this file lies."""
    if not where.is_local:
        return tempfile.gettempdir()
    return os.path.join(_output_of(where.path), INTERNAL, DRAFTS)


def create_from(draft: str, where: Location) -> bool:
    """Create a file from a draft, unless its name is taken. Returns and raises like `create`."""
    if not where.is_local:
        return _put(where, draft, IfNoneMatch="*")
    _sync_file(draft)
    os.makedirs(where.parent.path, exist_ok=True)
    try:
        os.link(draft, where.path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        raise OSError(errno.EOPNOTSUPP, "its disk has no hard links") from error
    _sync_folder(where.parent.path)
    return True


def replace_from(draft: str, where: Location, stamp: str) -> bool:
    """Replace a file by a draft, unless it has changed or is gone.

    Args:
        draft: Path of the new content on this machine.
        where: The file to replace.
        stamp: The `FileInfo.stamp` of the version that may be replaced.

    Returns:
        Whether this call replaced it. Where a reply was lost it may say no: compare the content.

    Raises:
        ValueError: The body is too large for one PUT.
        OSError: It cannot be written.
    """
    if not where.is_local:
        return _put(where, draft, IfMatch=stamp)
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


def overwrite(where: Location, body: bytes, *, sync: bool = True) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part of it.

    Args:
        where: The file.
        body: Its content.
        sync: On a disk, wait until it would survive a power loss.

    Raises:
        OSError: It cannot be written.
    """
    if not where.is_local:
        with_backoff(lambda: where.fs.pipe_file(where.path, body, chunksize=ONE_PUT))
        return
    for attempt in range(TRIES):
        try:
            _overwrite_on_disk(where, body, sync=sync)
            return
        except (FileNotFoundError, FileExistsError):  # others remove the folder, or make it, now
            if attempt == TRIES - 1:
                raise
            time.sleep(attempt * CROSSED_S)


@contextlib.contextmanager
def draft_beside(where: Location) -> Iterator[str]:
    """A local path to write to before `overwrite_from`; removed afterwards."""
    path = where.path if where.is_local else os.path.join(tempfile.gettempdir(), "gemma3-batch")
    with _removed_afterwards(f"{path}.{uuid.uuid4().hex}.tmp") as draft:
        yield draft


@contextlib.contextmanager
def _removed_afterwards(draft: str) -> Iterator[str]:
    try:
        yield draft
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)


def overwrite_from(draft: str, where: Location) -> None:
    """Write a file from a draft beside it, as `overwrite` does. Raises OSError."""
    if where.is_local:
        os.replace(draft, where.path)
    else:
        with_backoff(lambda: where.fs.put_file(draft, where.path))


def _overwrite_on_disk(where: Location, body: bytes, *, sync: bool) -> None:
    os.makedirs(where.parent.path, exist_ok=True)
    draft = f"{where.path}.{uuid.uuid4().hex}.tmp"
    try:
        with open(draft, "wb") as file:
            file.write(body)
        if sync:
            _sync_file(draft)
        os.rename(draft, where.path)
    except OSError:  # for example a full disk; what was written of it takes some of that
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def remove(where: Location) -> None:
    """Delete a file, unless it is gone already. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        with_backoff(lambda: where.fs.rm_file(where.path))


def remove_folder(where: Location) -> None:
    """Delete a folder and all that is in it, unless it is gone already. Raises OSError.

    Others may write to it or delete it meanwhile: then what is left is deleted as well.
    """
    if not where.is_local:
        if WILDCARDS.search(where.path):  # fsspec would remove all that the path matches
            for file in where.tree():
                remove(where / file.path)
            return
        with contextlib.suppress(FileNotFoundError):
            with_backoff(lambda: where.fs.rm(where.path, recursive=True))
        return
    for attempt in range(TRIES):
        shutil.rmtree(where.path, ignore_errors=True)
        if not os.path.lexists(where.path):
            return
        time.sleep(attempt * CROSSED_S)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(where.path)  # which says why not


def probe(output: Location, *, conditions: bool = True) -> None:
    """Check that OUTPUT can be written to, and its store creates and replaces conditionally.

    Takes six small requests on an object store.

    Args:
        output: OUTPUT.
        conditions: Whether the store must keep conditions.

    Raises:
        UserError: It does not, or it cannot be written to.
    """
    where = output / INTERNAL / f"{PROBE}{uuid.uuid4().hex}"
    try:
        if conditions:
            is_supported = _keeps_conditions(where)
        else:
            is_supported = True
            overwrite(where, b"", sync=False)
        remove(where)
    except Exception as error:  # the store's client has errors of many kinds
        _forget_probe(output, where)
        raise UserError(
            f"OUTPUT {output} cannot be written to: {one_line(error)}; {write_fix(error)}"
        ) from None
    if not is_supported:
        raise UserError(
            f"the store of OUTPUT {output} does not support conditional writes, so two runs at "
            "once could double rows; use another store, or give --single-driver if only one will "
            "ever write"
        )


def _forget_probe(output: Location, where: Location) -> None:
    """Remove what a probe made, but not folders with something else in them by now."""
    internal = output / INTERNAL
    with contextlib.suppress(Exception):  # what it meets is told by others, or does not matter
        remove(where)
        if not output.is_local:
            return
        with contextlib.suppress(OSError):
            os.rmdir((internal / DRAFTS).path)
        if os.listdir(internal.path) in ([], [LOCK]):
            remove_folder(internal)
            os.rmdir(output.path)


def _keeps_conditions(where: Location) -> bool:
    """Whether a write is refused where its condition does not hold, and accepted where it does."""

    def replace(body: bytes) -> bool:
        with draft_for(where) as draft:
            with open(draft, "wb") as file:
                file.write(body)
            return replace_from(draft, where, stamp)

    create(where, b"first")  # that the reply was lost is no fault of the store
    stamp = where.info().stamp
    return (
        not create(where, b"second")
        and (replace(b"third") or where.read() == b"third")  # as above
        and not replace(b"fourth")
    )


def _put(where: Location, draft: str, **condition: str) -> bool:
    """One conditional PUT. Returns whether the condition held."""
    size = os.path.getsize(draft)
    if size >= ONE_PUT:
        raise ValueError(
            f"{where} would have {size:,} bytes, more than one PUT takes; name a new OUTPUT, with "
            "a lower unit_rows"
        )
    with open(draft, "rb") as file:
        body = file.read()
    try:
        with_backoff(lambda: _conditional_put(where, body, condition))
    except Exception as error:
        is_gone = "IfMatch" in condition and isinstance(error, FileNotFoundError)
        if is_gone or _is_failed_precondition(error):
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
    """Replace an object of this generation.

    A call of the JSON API, as gcsfs 2026.10 has a condition for creating only; can go when its
    `pipe_file` takes a generation.
    """
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


def _is_failed_precondition(error: BaseException | None) -> bool:
    while error is not None:  # s3fs and gcsfs wrap what their clients raise
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


def _output_of(path: str) -> str:
    """The OUTPUT of a local path: the folder above `INTERNAL`, or else the one the file is in."""
    before, found, _ = path.partition(f"/{INTERNAL}/")
    return before if found else os.path.dirname(path)


@contextlib.contextmanager
def _lock(where: Location) -> Iterator[None]:
    """Hold the lock under which files of an OUTPUT on a disk are replaced, one at a time."""
    folder = os.path.join(_output_of(where.path), INTERNAL)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, LOCK), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync_file(path: str) -> None:
    file: BinaryIO
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: str) -> None:
    """Write a folder's entries to the disk, so that a new name survives a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
