"""What the package refuses or sets before anything loads, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from vllm.engine.arg_utils import EngineArgs
from vllm.plugins import load_general_plugins

from tests.gemma3_model import checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    load_general_plugins()
    return checkpoints.multimodal(tmp_path_factory.mktemp("settings"))


def test_float16_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="does not support float16"):
        EngineArgs(model=str(checkpoint), dtype="float16").create_engine_config()


def test_pictures_stay_whole_without_being_asked(checkpoint: Path) -> None:
    config = EngineArgs(model=str(checkpoint), dtype="float32").create_engine_config()
    assert config.scheduler_config.disable_chunked_mm_input
    assert config.scheduler_config.scheduler_cls == "gemma3_model.scheduling.WholePictureScheduler"


def test_importing_our_packages_imports_neither_torch_nor_vllm() -> None:
    code = (
        "import sys, pipeline, jobs, gemma3_model\n"
        "heavy = {'torch', 'vllm', 'ray', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
