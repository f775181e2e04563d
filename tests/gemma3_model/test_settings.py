"""What the package refuses or sets before anything loads, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from vllm.engine.arg_utils import EngineArgs
from vllm.plugins import load_general_plugins

from tests.gemma3_model import checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    load_general_plugins()
    return checkpoints.multimodal(tmp_path_factory.mktemp("settings"))


def test_float16_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"does not support float16\. Reason: Numerical"):
        EngineArgs(model=str(checkpoint), dtype="float16").create_engine_config()


def test_float16_is_refused_for_shieldgemma2(tmp_path: Path) -> None:
    folder = checkpoints.shieldgemma2(tmp_path)
    with pytest.raises(ValueError, match="overflows in float16"):
        EngineArgs(model=str(folder), dtype="float16").create_engine_config()


def test_float32_checkpoints_run_in_bfloat16_unless_asked(checkpoint: Path) -> None:
    assert EngineArgs(model=str(checkpoint)).create_model_config().dtype == torch.bfloat16
    asked = EngineArgs(model=str(checkpoint), dtype="float32").create_model_config()
    assert asked.dtype == torch.float32


def test_images_stay_whole_without_being_asked(checkpoint: Path) -> None:
    config = EngineArgs(model=str(checkpoint), dtype="float32").create_engine_config()
    assert config.scheduler_config.disable_chunked_mm_input
    assert config.scheduler_config.scheduler_cls == "gemma3_model.scheduling.batch_scheduler"


def test_text_models_have_our_scheduler_too(tmp_path: Path) -> None:
    folder = checkpoints.text_only(tmp_path)
    config = EngineArgs(model=str(folder), dtype="float32").create_engine_config()
    assert config.scheduler_config.scheduler_cls == "gemma3_model.scheduling.batch_scheduler"
    own = "tests.jobs.moderation.counting.CountingScheduler"
    config = EngineArgs(model=str(folder), scheduler_cls=own).create_engine_config()
    assert config.scheduler_config.scheduler_cls == own


@pytest.mark.parametrize(
    ("length", "asked", "has_one_group"),
    [(24, None, True), (25, None, False), (24, False, False), (25, True, True)],
)
def test_layers_are_one_group_where_the_window_holds_everything(
    checkpoint: Path, length: int, asked: bool | None, has_one_group: bool
) -> None:
    """Unless it is asked otherwise."""
    config = EngineArgs(
        model=str(checkpoint),
        dtype="float32",
        max_model_len=length,
        disable_hybrid_kv_cache_manager=asked,
    ).create_engine_config()
    assert config.scheduler_config.disable_hybrid_kv_cache_manager is has_one_group


def test_steps_too_short_for_an_image_are_refused(checkpoint: Path) -> None:
    """An image would wait forever for a step that holds it."""
    with pytest.raises(ValueError, match="threshold 15 is less than the 16 tokens of an image"):
        EngineArgs(
            model=str(checkpoint), dtype="float32", long_prefill_token_threshold=15
        ).create_engine_config()


def test_importing_our_packages_imports_neither_torch_nor_vllm() -> None:
    code = (
        "import sys, pipeline, jobs, gemma3_model\n"
        "heavy = {'torch', 'vllm', 'ray', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
