"""How vLLM's engine is started, as far as no engine is needed to see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import vllm.platforms
from vllm.platforms.cpu import CpuPlatform
from vllm.platforms.interface import PlatformEnum, UnspecifiedPlatform
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM

from pipeline import EngineConfig, UserError
from pipeline.engine.vllm_engine import VllmEngine


def test_a_machine_without_a_device_is_told(
    gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM for GPUs where there is none; vLLM itself says that a device string is empty."""
    monkeypatch.setattr(vllm.platforms, "_current_platform", UnspecifiedPlatform())
    with pytest.raises(UserError, match=r"no GPU here.* install this project with \[cpu\]"):
        VllmEngine(EngineConfig(model=str(gemma_folder)))


class Enough(Exception):
    """Nothing needs to be started."""


class Gpu(CpuPlatform):
    """Some device that is no CPU."""

    _enum = PlatformEnum.CUDA


@pytest.mark.parametrize(
    ("platform", "context"),
    [(Gpu, UsageContext.LLM_CLASS), (CpuPlatform, UsageContext.ENGINE_CONTEXT)],
)
def test_steps_are_sized_for_the_device(
    gemma_folder: Path, monkeypatch: pytest.MonkeyPatch, platform: Any, context: UsageContext
) -> None:
    """vLLM gives an asynchronous engine an eighth of what it gives a batch on an H200 (0.32)."""
    monkeypatch.setattr(vllm.platforms, "_current_platform", platform())
    asked = []

    def from_engine_args(_: Any, *, usage_context: UsageContext) -> None:
        asked.append(usage_context)
        raise Enough

    monkeypatch.setattr(AsyncLLM, "from_engine_args", from_engine_args)
    with pytest.raises(Enough):
        VllmEngine(EngineConfig(model=str(gemma_folder)))
    assert asked == [context]
