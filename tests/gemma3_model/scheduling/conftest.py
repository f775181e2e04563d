"""The checkpoint for which schedulers are made here; nothing changes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from vllm.plugins import load_general_plugins

from tests.gemma3_model import checkpoints


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    load_general_plugins()
    return checkpoints.multimodal(tmp_path_factory.mktemp("scheduling"))
