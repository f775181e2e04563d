"""What vLLM's engine is told, and what it refuses; without an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import vllm.platforms
from vllm import envs
from vllm.platforms.cpu import CpuPlatform
from vllm.platforms.interface import PlatformEnum, UnspecifiedPlatform
from vllm.usage.usage_lib import UsageContext

from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import UserError
from pipeline.engine.vllm_settings import (
    check_engine_args,
    compile_cache,
    engine_args,
    refusals_in_a_line,
)


def engine(**arguments: Any) -> EngineConfig:
    return EngineConfig(model="demo", max_model_len=512, engine_args=arguments)


def test_an_argument_that_vllm_does_not_take_is_told() -> None:
    told = r"^engine_args: vLLM's engine takes no 'gpu_memory_utilisation'; did you mean "
    with pytest.raises(UserError, match=told + r"'gpu_memory_utilization'\?$"):
        check_engine_args(engine(gpu_memory_utilisation=0.5))
    with pytest.raises(
        UserError, match=r"^engine_args: vLLM's engine takes no 'zzzzzzzz'; take it out$"
    ):
        check_engine_args(engine(zzzzzzzz=0.5))


class Gpu(CpuPlatform):
    """A GPU of so many bytes, as far as sizes are chosen for one."""

    _enum = PlatformEnum.CUDA
    memory = 141 * 2**30

    @classmethod
    def get_device_total_memory(cls, device_id: int = 0) -> int:
        return cls.memory


class SmallGpu(Gpu):
    memory = 24 * 2**30


@pytest.mark.parametrize(
    ("platform", "asked", "requests"),
    [
        (Gpu, {}, 256),
        (Gpu, {"has_images": False}, 1024),
        (SmallGpu, {"has_images": False}, 256),
        (SmallGpu, {"has_images": False, "max_num_seqs": 900}, 900),
        (CpuPlatform, {"has_images": False}, 64),
        (UnspecifiedPlatform, {"has_images": False}, 1024),
    ],
)
def test_how_many_requests_run_at_once_is_chosen_for_the_device(
    monkeypatch: pytest.MonkeyPatch, platform: type, asked: dict[str, Any], requests: int
) -> None:
    monkeypatch.setattr(vllm.platforms, "_current_platform", platform())
    made = engine_args(EngineConfig(model="demo", max_model_len=512, **asked))
    assert made.max_num_seqs == requests


def create_config(config: EngineConfig) -> None:
    """What `VllmEngine` does first."""
    made = engine_args(config)
    with refusals_in_a_line(config):
        made.create_engine_config(UsageContext.LLM_CLASS)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"gpu_memory_utilization": "much"}, "gpu_memory_utilization: .*valid number.*'much'"),
        ({"block_size": [1]}, "block_size: .*valid integer"),
        ({"quantization": "fp9"}, r"\(quantization\): vLLM says: .*fp9"),
        ({"hf_overrides": {"rope_parameters": 3}}, r"\(hf_overrides\): vLLM says: "),
    ],
)
def test_a_value_that_vllm_does_not_take_is_told(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=f"^engine_args.*{told}") as error:
        create_config(engine(**arguments))
    assert "\n" not in str(error.value)


def test_a_driver_finds_what_needs_no_device() -> None:
    check_engine_args(engine(gpu_memory_utilization=0.5))
    with pytest.raises(UserError, match="engine_args: gpu_memory_utilization: "):
        check_engine_args(engine(gpu_memory_utilization="x"))


@pytest.mark.parametrize("variable", ["VLLM_CACHE_ROOT", "XDG_CACHE_HOME", None])
def test_the_folder_of_what_was_compiled_is_vllm_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str | None
) -> None:
    for name in ("VLLM_CACHE_ROOT", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, str(tmp_path))
    assert compile_cache() == envs.VLLM_CACHE_ROOT
