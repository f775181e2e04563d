"""Decides how text of the commands gets to the terminal: as it is, neither wrapped nor coloured.

Progress and errors are JSON where that is asked for, one object a line.
"""

from __future__ import annotations

import os
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from pipeline.execution.display.json_log import JsonLog

if TYPE_CHECKING:
    from collections.abc import Sequence

LogForm = Literal["text", "json"]
LOG_VARIABLE = "GEMMA3_BATCH_LOG"
"""The environment variable that has the form where `--log-format` is not given."""
LOG_FLAG = "--log-format"

OUT = Console()
ERR = Console(stderr=True)


def print_plain(text: str, console: Console = OUT) -> None:
    """Print text as it is: not wrapped, coloured, or read as markup or names of emoji."""
    console.print(text, highlight=False, soft_wrap=True, markup=False, emoji=False)


def shown_as(form: LogForm) -> Console | JsonLog:
    """Where progress and errors are shown."""
    return JsonLog(sys.stderr) if form == "json" else ERR


def wanted_form(arguments: Sequence[str]) -> LogForm:
    """The form that a command line asks for, even if it is wrong otherwise.

    Args:
        arguments: Those of the command.
    """
    given = [after for flag, after in pairwise(arguments) if flag == LOG_FLAG]
    given += [one.partition("=")[2] for one in arguments if one.startswith(f"{LOG_FLAG}=")]
    form = given[-1] if given else os.environ.get(LOG_VARIABLE, "")
    return "json" if form == "json" else "text"


def print_error(text: str, code: int, shown: Console | JsonLog = ERR, **values: object) -> None:
    """Print why a command ends.

    Args:
        text: What to print, in a line or a few.
        code: The exit code.
        shown: Where.
        values: More for programs, as JSON values.
    """
    if isinstance(shown, JsonLog):
        shown.write("error", message=text, exit_code=code, **values)
    else:
        print_plain(f"gemma3-batch: {text}", shown)
