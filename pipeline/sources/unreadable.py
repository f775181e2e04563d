"""Decides how an input file that cannot be read while planning is reported to the user."""

from __future__ import annotations

import contextlib
import tarfile
import zlib
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.contract.errors import UserError, one_line
from pipeline.storage.backoff import is_transient
from pipeline.storage.contents import (
    CSV,
    GZIP,
    JSON_LINES,
    PACKED,
    PARQUET,
    TAR,
    TEXT,
    TSV,
    contents_of,
)
from pipeline.storage.hub import hub_fault
from pipeline.storage.refusals import refusal_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.storage.location import Location

FORMAT_ERRORS = (pa.ArrowException, OSError, EOFError, zlib.error, tarfile.TarError)
EXPECTED = {
    "parquet": (PARQUET,),
    "tar": (TAR,),
    "gzip": (*PACKED.values(), GZIP),
    "JSON lines": (JSON_LINES,),
    "CSV": (CSV, TSV, TEXT),
}
"""What a file of each format looks like even where it is broken."""


@contextlib.contextmanager
def user_errors(file: Location, kind: str) -> Iterator[None]:
    """Turn the errors of reading a file into one for the user.

    Args:
        file: The file.
        kind: Its expected format, one of `EXPECTED`.

    Raises:
        UserError: The file is gone, may not be read, or is not of that format.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_transient(error):
            raise UserError(f"INPUT {file} cannot be read now: {one_line(error)}") from None
        if (fault := hub_fault(error, file)) is not None:
            raise UserError(f"INPUT {file} {fault}") from None
        refusal = refusal_of(error, is_local=file.is_local)
        if refusal is not None:
            raise UserError(
                f"INPUT {file} cannot be read: {one_line(error)}; {refusal.fix}"
            ) from None
        if isinstance(error, FileNotFoundError):
            raise UserError(f"INPUT {file} is gone since it was listed; start again") from None
        if isinstance(error, PermissionError):
            raise UserError(f"INPUT {file} cannot be read: permission") from None
        if isinstance(error, FORMAT_ERRORS):
            raise UserError(not_of_kind(file, kind)) from None
        raise


def not_of_kind(file: Location, kind: str) -> str:
    """Why a file is not of the format that its name says: what else it is, or that it is broken."""
    try:
        found = contents_of(file)
    except Exception:  # the first error counts
        found = None
    if found is None or found in EXPECTED[kind]:
        return f"INPUT {file} is not a readable {kind} file; repair it or take it away"
    return f"INPUT {file} is {found.what}, not {kind}; {found.fix}, or take it away"
