"""Decides how the process of a command ends: with its exit code, whatever its libraries do then.

A process that is done may be ended by SIGABRT ("terminate called without an active exception"): a
thread of Arrow's still lets go of a Python object while Python is taken apart. A scheduler takes
the run for a failed one. It was seen of a `retry` that had nothing to do, on a busy machine. So
all that Python does at an end is done, and the rest is left to the system. Can go with Arrow's
issues 34314 and 45017.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn


def end(code: int) -> NoReturn:
    """End this process.

    Args:
        code: The exit code.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # threads that are to be waited for
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads any more; Python has its own code for it
        sys.exit(code)
    os._exit(code)
