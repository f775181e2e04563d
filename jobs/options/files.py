"""Reads the files that options name, and says what is wrong with one that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline import UserError
from pipeline.contract.suggest import FILES, suggestion


def read_text(what: str, path: str | Path, encoding: str = "utf-8") -> str:
    """The text of a file, line ends as they are.

    Args:
        what: What a message calls it: the option's name.
        path: The file; `~` is the home folder.
        encoding: Its encoding, a kind of UTF-8.

    Raises:
        UserError: It is not there, is a folder, may not be read or is not UTF-8; one line with the
            fix.
    """
    try:
        with Path(path).expanduser().open(encoding=encoding, newline="") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{what} {path}: cannot be read: {_fault(error, Path(path))}") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what} {path}: is not UTF-8 (at byte {error.start}); save it as UTF-8"
        ) from None


def _fault(error: OSError, path: Path) -> str:
    match error:
        case FileNotFoundError():
            return f"there is no such file; {_near(path) or 'check the path'}"
        case IsADirectoryError():
            return "it is a folder; name a file in it"
        case PermissionError():
            return "permission is denied; change it, or name another file"
    return f"{error.strerror}; name another file"


def _near(path: Path) -> str:
    """The file of that folder that may have been meant."""
    try:
        return suggestion(path.name, os.listdir(path.expanduser().parent), FILES).strip()
    except OSError:
        return ""
