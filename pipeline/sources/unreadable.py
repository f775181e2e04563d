"""Decides how an input file that cannot be read while planning is reported to the user."""

from __future__ import annotations

import contextlib
import tarfile
import zlib
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.contract.errors import UserError, one_line
from pipeline.storage.backoff import is_transient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.storage.location import Location

FORMAT_ERRORS = (pa.ArrowException, OSError, EOFError, zlib.error, tarfile.TarError)


@contextlib.contextmanager
def user_errors(file: Location, kind: str) -> Iterator[None]:
    """Turn the errors of reading a file into one for the user.

    Args:
        file: The file.
        kind: Its expected format: `parquet`, `tar`, ...

    Raises:
        UserError: The file is gone, may not be read, or is not of that format.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"INPUT {file} is gone since it was listed; start again") from None
    except PermissionError:
        raise UserError(f"INPUT {file} cannot be read: permission") from None
    except FORMAT_ERRORS as error:
        if is_transient(error):
            raise UserError(f"INPUT {file} cannot be read now: {one_line(error)}") from None
        raise UserError(
            f"INPUT {file} is not a readable {kind} file; repair it or take it away"
        ) from None
