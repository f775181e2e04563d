"""How a run that failed is reported: by its root cause, in one line.

Ray wraps an error from an actor in text within text; the original exception is lost on the way.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from pipeline.contract.errors import RunError, UserError, one_line

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


def _root_cause(error: Exception) -> RunError:
    text = str(error)
    if _NEXT_LINK not in text:
        return RunError(f"the run stopped: {one_line(error)}")
    # The message follows the last indented line of the first traceback.
    lines = _COLOUR.sub("", text.split(_NEXT_LINK, maxsplit=1)[0]).strip().splitlines()
    indented = [number for number, line in enumerate(lines) if line.startswith(" ")]
    cause = " ".join(lines[indented[-1] + 1 if indented else 0 :])
    found = _CLASS.match(cause)
    if found and found["name"] == RunError.__name__:
        return RunError(cause[found.end() :])
    return RunError(f"the run stopped: {cause}")
