"""Faults of OUTPUT that do not pass by themselves: a full disk, no permission, a lost bucket.

Decides which errors are such faults, and how they are told: with OUTPUT's name and what to do. The
run that meets one stops at once, as no other write would do better.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
import uuid
from typing import TYPE_CHECKING

from pipeline.contract.errors import RunError, one_line
from pipeline.storage.atomic import PROBE, overwrite, remove
from pipeline.storage.backoff import is_transient
from pipeline.storage.location import INTERNAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.storage.location import Location

FIXES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "raise the quota or free some space",
    errno.EROFS: "mount it for writing",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EACCES: "get the permission to write there",
    errno.EPERM: "get the permission to write there",
    errno.ENOENT: "make the bucket or folder again",
}
OF_WRITES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
"""Errors that only a write can meet."""
ANY_FIX = "make it writable"


class OutputError(RunError):
    """OUTPUT cannot be written to, and that will last: the run ends, and can be resumed."""


@contextlib.contextmanager
def writing_to(output: Location) -> Iterator[None]:
    """A block that writes to OUTPUT and does nothing else.

    Raises:
        OutputError: In the place of an error of OUTPUT that lasts; others pass as they are.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_a_store(error) or is_transient(error):
            raise
        raise _output_error(output, error) from error


@contextlib.contextmanager
def naming_output(output: Location) -> Iterator[None]:
    """A block that writes to OUTPUT among other things, such as reading INPUT.

    Raises:
        OutputError: In the place of an error of a store that lasts, if OUTPUT cannot be written to;
            others pass as they are.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_a_store(error) or is_transient(error):
            raise
        if isinstance(error, OSError) and error.errno in OF_WRITES:
            raise _output_error(output, error) from error
        _check_writable(output)
        raise


def _check_writable(output: Location) -> None:
    """Try it. Raises OutputError where it will not be for long."""
    where = output / INTERNAL / f"{PROBE}{uuid.uuid4().hex}"
    with contextlib.suppress(OSError), writing_to(output):
        overwrite(where, b"", sync=False)
        remove(where)


def _is_of_a_store(error: Exception) -> bool:
    is_answer = isinstance(getattr(error, "response", None), dict)  # botocore's
    return isinstance(error, OSError) or is_answer or isinstance(getattr(error, "code", None), int)


def _output_error(output: Location, error: Exception) -> OutputError:
    number = error.errno if isinstance(error, OSError) else None
    if number in OF_WRITES and not output.is_local:  # only drafts are written to disks then
        what = f"the temporary folder {tempfile.gettempdir()} of a machine"
    else:
        what = f"OUTPUT {output}"
    fix = FIXES.get(number, ANY_FIX) if number is not None else ANY_FIX
    return OutputError(
        f"{what} cannot be written to: {one_line(error)}\n"
        f"What is finished is kept; {fix} and run the same command again."
    )
