"""The process of a command ends with the command's exit code."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATE_ABORT = """
import atexit, ctypes, sys, threading
libc = ctypes.CDLL(None)
abort = ctypes.cast(libc.abort, ctypes.c_void_p)
libc.__cxa_atexit(abort, None, None)  # as a library does that is taken apart
atexit.register(print, "at the end", end="")
thread = threading.Timer(0.2, print, ["a thread"])
from jobs.cli.app import main
sys.argv = ["gemma3-batch", *{arguments!r}]
thread.start()
main()
"""


def ended(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = LATE_ABORT.format(arguments=arguments)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["status", "/nowhere"], 2)])
def test_libraries_that_abort_at_the_end_change_nothing(arguments: list[str], code: int) -> None:
    done = ended(*arguments)
    assert done.returncode == code, done.stderr
    assert done.stdout.endswith("a thread\nat the end")
    assert (code == 0) == (done.stderr == "")
