"""The real Gemma 3 270M that `make real-model` fetches; tests on it are skipped where it is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.real_model import FOLDER, WEIGHTS, folder

NEEDED = "GEMMA3_BATCH_NEEDS_REAL_MODEL"
"""Environment variable: `1` makes tests that do not find it fail instead of being skipped."""


def find() -> Path:
    """Its folder."""
    found = folder()
    if (found / WEIGHTS).exists():
        return found
    message = f"there is no real Gemma 3 in {found}: make real-model (or {FOLDER}) puts it there"
    if os.environ.get(NEEDED) == "1":
        pytest.fail(message)
    pytest.skip(message)
