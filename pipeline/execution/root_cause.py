"""What to tell of a run that failed: its first cause, in one line.

Ray hands an error from an actor on as text within text; the error itself is lost on the way.
"""

from __future__ import annotations

import re

from pipeline.contract.errors import RunError, UserError, one_line

_NEXT_LINK = "\n\nThe above exception was the direct cause of the following exception:\n"
_CLASS = re.compile(r"^([\w.]+\.)?(?P<name>\w+): ")
_COLOUR = re.compile(r"\x1b\[\d+m")


def root_fault(error: BaseException) -> BaseException:
    """The error to end a run with.

    Our own errors and interruptions stay as they are; of another, whether it was raised here or by
    a stage in another process, its first cause is told.
    """
    if isinstance(error, (UserError, RunError, KeyboardInterrupt, SystemExit)):
        return error
    text = str(error)
    if _NEXT_LINK not in text:
        return RunError(f"the run stopped: {one_line(error)}")
    cause = _message(_COLOUR.sub("", text.split(_NEXT_LINK, maxsplit=1)[0]))
    found = _CLASS.match(cause)
    if found and found["name"] == RunError.__name__:
        return RunError(cause[found.end() :])
    return RunError(f"the run stopped: {cause}")


def _message(trace: str) -> str:
    """What follows the last indented line of a traceback, as one line."""
    lines = trace.strip().splitlines()
    indented = [number for number, line in enumerate(lines) if line.startswith(" ")]
    return " ".join(lines[indented[-1] + 1 if indented else 0 :])
