"""How a file that cannot be read is told to the user, before anything starts."""

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

FORMAT_FAULTS = (pa.ArrowException, OSError, EOFError, zlib.error, tarfile.TarError)


@contextlib.contextmanager
def told_as_user_error(file: Location, kind: str) -> Iterator[None]:
    """Turn what reading a file raises into a UserError.

    Args:
        file: The file.
        kind: What it should be: `parquet`, `tar`, ...
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"INPUT {file} is gone since it was listed; start again") from None
    except PermissionError:
        raise UserError(f"INPUT {file} cannot be read: permission") from None
    except FORMAT_FAULTS as error:
        if is_transient(error):
            raise UserError(f"INPUT {file} cannot be read now: {one_line(error)}") from None
        raise UserError(
            f"INPUT {file} is not a readable {kind} file; repair it or take it away"
        ) from None
