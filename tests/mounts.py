"""Whether a test can mount a disk of its own, in a namespace that ends with its process."""

from __future__ import annotations

import functools
import shutil
import subprocess


@functools.cache
def can_mount() -> bool:
    """Whether `unshare -m` and `mount` work here; containers often forbid it."""
    if shutil.which("unshare") is None:
        return False
    test = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(test, capture_output=True, check=False).returncode == 0
