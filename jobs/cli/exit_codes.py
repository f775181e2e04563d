"""Decides with which exit code and which words a command ends; `help.EXIT_CODES` lists the codes.

Errors are one or two lines on stderr, with a traceback only with `--debug`.
"""

from __future__ import annotations

import contextlib
import traceback
from typing import TYPE_CHECKING

import typer
from pydantic import ValidationError

from jobs.cli.again import command_again
from jobs.cli.console import ERR, print_error
from pipeline import ErrorRateError, RunError, UserError
from pipeline.contract.config import describe_fault
from pipeline.contract.errors import one_line
from pipeline.storage.access import access_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from pipeline.execution.display.json_log import JsonLog

RUN_FAILED = 1
USER_ERROR = 2
TOO_MANY_FAILED = 3
INTERRUPTED = 130
DEBUG = "Run again with --debug to see more."


@contextlib.contextmanager
def exit_codes(
    *, debug: bool, shown: Console | JsonLog = ERR, continues: bool = False
) -> Iterator[None]:
    """Turn an exception into an exit code, and a line or two on stderr.

    Args:
        debug: Whether to print its traceback too.
        shown: Where it is printed.
        continues: Whether the same command goes on where it stopped, which is then said.
    """
    try:
        yield
    except typer.Exit:  # it is told already
        raise
    except (Exception, KeyboardInterrupt) as error:
        code, text = _described(error)
    else:
        return
    if debug:
        traceback.print_exc()
    again: dict[str, object] = {}
    if continues and code in (RUN_FAILED, INTERRUPTED):
        again = {"go_on_with": command_again()}
        text += f"\nGo on with: {again['go_on_with']}"
    print_error(text, code, shown, **again)
    raise typer.Exit(code)


def _described(error: BaseException) -> tuple[int, str]:
    """The exit code of an exception, and the words."""
    match error:
        case ValidationError():
            code, text = USER_ERROR, describe_fault(error)
        case UserError():
            code, text = USER_ERROR, str(error)
        case ErrorRateError():
            code, text = TOO_MANY_FAILED, str(error)
        case RunError():
            code, text = RUN_FAILED, f"{error}\n{DEBUG}"
        case KeyboardInterrupt() | typer.Abort():  # Ctrl-C, and at a question
            code, text = INTERRUPTED, "interrupted; what is finished is kept"
        case _:  # a disk, a store, or a bug, ours or a library's
            fault = access_fault(error)
            code, text = USER_ERROR, f"{one_line(error)}; {fault}"
            if fault is None:
                code, text = RUN_FAILED, f"{one_line(error)}\n{DEBUG}"
    return code, text
