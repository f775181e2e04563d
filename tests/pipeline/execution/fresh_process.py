"""A script in a process that no cluster was named to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


def run(code: str) -> tuple[dict[str, Any], str]:
    """What a script prints, which is JSON, and what it writes to stderr."""
    unset = ("RAY_ADDRESS", "PYTHONWARNINGS")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
        env={name: value for name, value in os.environ.items() if name not in unset},
    )
    return json.loads(done.stdout), done.stderr
