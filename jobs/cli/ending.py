"""Decides how the process of a command ends: with its exit code, whatever its libraries do then.

Once Ray was there, a process that is all done is now and then ended by SIGABRT while its libraries
are taken apart ("terminate called without an active exception": a thread in C++ is left), and a
scheduler takes the run for a failed one. So all that Python does at an end is done, and the rest is
left to the system. No issue of Ray (2.60) was found; can go when that happens no more.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn

LIBRARY = "ray"


def end(code: int) -> NoReturn:
    """End this process.

    Args:
        code: The exit code.
    """
    if LIBRARY not in sys.modules:
        sys.exit(code)
    threading._shutdown()  # type: ignore[attr-defined]  # threads that are to be waited for
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads any more; Python has its own code for it
        sys.exit(code)
    os._exit(code)
