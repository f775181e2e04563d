"""How a run that failed is reported: by its root cause, in one line.

Ray wraps an error from an actor in text within text; the original exception is lost on the way.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from pipeline.contract.errors import RunError, UserError, one_line
from pipeline.contract.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEXT_LINK = "\n\nThe above exception was the direct cause of the following exception:\n"
_CLASS = re.compile(r"^([\w.]+\.)?(?P<name>\w+): ")
_COLOUR = re.compile(r"\x1b\[\d+m")


@contextlib.contextmanager
def raising_root_cause() -> Iterator[None]:
    """Turn errors of other libraries, raised within, into a `RunError` that names the root cause.

    Our own errors and interruptions pass as they are.

    Raises:
        RunError: Another error was raised, here or by a stage in another process.
    """
    try:
        yield
    except (UserError, RunError):
        raise
    except Exception as error:
        raise _root_cause(error) from error


def cause_of(error: Exception) -> str:
    """What the first traceback in an error of Ray ends with, or the error's text, in one line.

    Redacted, as it is shown.
    """
    text = _COLOUR.sub("", str(error).split(_NEXT_LINK, maxsplit=1)[0]).strip()
    lines = text.splitlines()
    # The message follows the last indented line.
    indented = [number for number, line in enumerate(lines) if line.startswith((" ", "\t"))]
    message = " ".join(lines[indented[-1] + 1 :] if indented else lines)
    return redact(message) or one_line(error)


def _root_cause(error: Exception) -> RunError:
    if _NEXT_LINK not in str(error):
        return RunError(f"the run stopped: {one_line(error)}")
    cause = cause_of(error)
    found = _CLASS.match(cause)
    if found and found["name"] == RunError.__name__:
        return RunError(cause[found.end() :])
    return RunError(f"the run stopped: {cause}")
