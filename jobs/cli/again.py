"""The command that goes on with a run: the one that was given, quoted so that it can be pasted.

Values that may be secret are left out: what is printed ends up in logs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING

from pipeline.contract.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "gemma3-batch"
SECRET_FLAGS = ("--storage-options",)
LEFT_OUT = "..."
WITH_VALUES = ("-X", "-W", "--check-hash-based-pycs")
"""Options of Python after which comes a value."""


def command_again(given: Sequence[str] | None = None) -> str:
    """The command line of this process, for a shell.

    Args:
        given: The interpreter with all its arguments; by default this process's.
    """
    given = sys.orig_argv if given is None else given
    return shlex.join([*_program(given), *_without_secrets(_arguments(given))])


def _arguments(given: Sequence[str]) -> list[str]:
    """What follows the program's name."""
    after = _script(given)
    return [*given[after + 1 :]]


def _script(given: Sequence[str]) -> int:
    """Where the program's name is: after `-m`, or the first that is no option of Python's."""
    number = 1
    while number < len(given) and given[number].startswith("-"):
        if given[number] == "-m":
            return number + 1
        number += 2 if given[number] in WITH_VALUES else 1
    return number


def _program(given: Sequence[str]) -> list[str]:
    """How the program is called: by its name where that finds it."""
    script = _script(given)
    if given[script - 1] == "-m":
        return [*given[: script + 1]]
    path = given[script] if script < len(given) else NAME
    found = shutil.which(NAME)
    is_found = found is not None and os.path.realpath(found) == os.path.realpath(path)
    return [NAME if is_found else path]


def _without_secrets(arguments: Sequence[str]) -> list[str]:
    shown: list[str] = []
    for one in arguments:
        flag, equals, _ = one.partition("=")
        if shown and shown[-1] in SECRET_FLAGS:
            shown.append(LEFT_OUT)
        elif flag in SECRET_FLAGS and equals:
            shown.append(f"{flag}={LEFT_OUT}")
        else:
            shown.append(redact(one))
    return shown
