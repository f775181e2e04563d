"""Decides where a file that a user names may be written: not into an OUTPUT, among its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline import UserError
from pipeline.contract.errors import one_line
from pipeline.storage.access import check_access
from pipeline.storage.atomic import overwrite
from pipeline.storage.location import Location, is_writable, locate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.storage.location import StorageOptions


def target_of(
    path: str, option: str, outputs: Iterable[Location], storage_options: StorageOptions | None
) -> Location:
    """The file that an option names.

    Args:
        path: A path or a URI.
        option: The option's name.
        outputs: OUTPUTs that it may not lie in.
        storage_options: Arguments of fsspec's filesystems, by protocol.

    Raises:
        UserError: It is a folder, lies in an OUTPUT, or is in a store that cannot be written to.
    """
    where = locate(path, storage_options)
    if not is_writable(where):
        raise UserError(f"{option}: {where} cannot be written to; use a path, s3:// or gs://")
    check_access(where, option)
    if any(output.contains(where) for output in outputs):
        raise UserError(f"{option}: {where} lies in OUTPUT; name a file outside of it")
    if where.is_folder():
        raise UserError(f"{option}: {where} is a folder; name a file in it")
    return where


def save(where: Location, body: bytes) -> None:
    """Write a page. Raises UserError."""
    try:
        overwrite(where, body, sync=False)
    except Exception as error:  # the stores' clients have errors of many kinds
        raise UserError(f"to: {where} cannot be written: {one_line(error)}") from None
