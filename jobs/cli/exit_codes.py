"""Decides with which exit code and which words a command ends; `help.EXIT_CODES` lists the codes.

Errors are one or two lines on stderr, with a traceback only with `--debug`.
"""

from __future__ import annotations

import contextlib
import traceback
from typing import TYPE_CHECKING

import typer
from pydantic import ValidationError

from jobs.cli.console import ERR, print_plain
from pipeline import ErrorRateError, RunError, UserError
from pipeline.contract.config import describe_fault
from pipeline.contract.errors import one_line
from pipeline.storage.access import access_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN_FAILED = 1
USER_ERROR = 2
TOO_MANY_FAILED = 3
INTERRUPTED = 130


@contextlib.contextmanager
def exit_codes(*, debug: bool) -> Iterator[None]:
    """Turn an exception into an exit code, and a line or two on stderr."""
    try:
        yield
    except ValidationError as error:
        code, text = USER_ERROR, describe_fault(error)
    except UserError as error:
        code, text = USER_ERROR, str(error)
    except ErrorRateError as error:
        code, text = TOO_MANY_FAILED, str(error)
    except RunError as error:
        code, text = RUN_FAILED, f"{error}\nRun again with --debug to see more."
    except KeyboardInterrupt:
        code, text = INTERRUPTED, "interrupted; the same command continues where it stopped"
    except Exception as error:  # a disk, a store, or a bug, ours or a library's
        fault = access_fault(error)
        code, text = USER_ERROR, f"{one_line(error)}; {fault}"
        if fault is None:
            code, text = RUN_FAILED, f"{one_line(error)}\nRun again with --debug to see more."
    else:
        return
    if debug:
        traceback.print_exc()
    print_plain(f"gemma3-batch: {text}", ERR)
    raise typer.Exit(code)
