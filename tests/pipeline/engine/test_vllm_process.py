"""How vLLM's engine is started, as far as no engine is needed to see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import vllm.platforms
import vllm.renderers.hf
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms.cpu import CpuPlatform
from vllm.platforms.interface import PlatformEnum, UnspecifiedPlatform
from vllm.tokenizers.hf import ThreadSafeHFTokenizerMixin
from vllm.usage.usage_lib import UsageContext

from gemma3_model.registration import register_loaded
from gemma3_model.scheduling.final_outputs import SUM_OF_LOGPROBS
from pipeline import EngineConfig, Sampling, UserError
from pipeline.engine.interface import Rendered
from pipeline.engine.model_files import BUNDLED
from pipeline.engine.vllm_sampling import sampling_params
from pipeline.engine.vllm_start import start

COPYING = vllm.renderers.hf.maybe_make_thread_pool


def test_a_machine_without_a_device_is_told(
    gemma_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM for GPUs where there is none; vLLM itself says that a device string is empty."""
    monkeypatch.setattr(vllm.platforms, "_current_platform", UnspecifiedPlatform())
    with pytest.raises(UserError, match=r"no GPU here.* install this project with \[cpu\]"):
        start(EngineConfig(model=str(gemma_folder)), print)


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
    """vLLM gives an engine an eighth of what it gives a batch on an H200 (0.32)."""
    register_loaded()  # vLLM's layers look for a GPU's kernels when they are imported on one
    monkeypatch.setattr(vllm.platforms, "_current_platform", platform())
    asked = []

    def create_engine_config(_: Any, usage_context: UsageContext) -> None:
        asked.append(usage_context)
        raise Enough

    monkeypatch.setattr(AsyncEngineArgs, "create_engine_config", create_engine_config)
    with pytest.raises(Enough):
        start(EngineConfig(model=str(gemma_folder)), print)
    assert asked == [context]


def test_what_vllm_refuses_is_told_by_its_name() -> None:
    config = EngineConfig(
        model="demo", max_model_len=512, engine_args={"gpu_memory_utilization": 5, "seed": 1}
    )
    with pytest.raises(UserError, match=r"^engine_args \(gpu_memory_utilization\): vLLM says: "):
        start(config, print)


def params(key: str = "row", **sampling: Any) -> Any:
    """What vLLM is told for a request with these parameters."""
    return sampling_params(Rendered([1], 1, Sampling(9, **sampling), stop_token_ids=(5,)), key)


def test_all_of_a_sampling_reaches_vllm() -> None:
    drawn = params(temperature=0.7, top_p=0.8, top_k=3, n=2, json_schema="{}", stop=("\n", "END"))
    assert (drawn.max_tokens, drawn.temperature, drawn.top_p, drawn.top_k) == (9, 0.7, 0.8, 3)
    assert (drawn.n, drawn.stop, drawn.stop_token_ids) == (2, ["\n", "END"], [5])
    assert drawn.structured_outputs.json == "{}"
    assert drawn.repetition_detection is None
    assert params(ends_loops=True).repetition_detection is not None
    steered = params(presence_penalty=0.1, frequency_penalty=-0.2, repetition_penalty=1.3)
    assert (steered.presence_penalty, steered.frequency_penalty) == (0.1, -0.2)
    assert steered.repetition_penalty == 1.3
    assert (params().logprobs, params().extra_args) == (None, None)
    measured = params(mean_log_probability=True)
    assert (measured.logprobs, measured.extra_args) == (0, {SUM_OF_LOGPROBS: True})


def test_a_drawn_answer_has_a_seed_of_its_row_and_of_the_option() -> None:
    seeds = [
        params(key, temperature=0.7, seed=seed).seed
        for key, seed in (("a", 0), ("a", 0), ("b", 0), ("a", 1))
    ]
    assert None not in seeds
    assert seeds[0] == seeds[1]
    assert len({*seeds}) == 3


def test_a_greedy_answer_is_not_drawn() -> None:
    greedy = params(top_p=0.8, top_k=3)
    assert (greedy.temperature, greedy.top_p, greedy.seed) == (0.0, 1.0, None)


def test_of_scored_tokens_the_probabilities_are_asked_for() -> None:
    request = Rendered([1], 1, Sampling(1, score_tokens=("Yes", "No")), scored_token_ids=(7, 8))
    scored = sampling_params(request, "row")
    assert (scored.logprob_token_ids, scored.max_tokens) == ([7, 8], 1)


def test_the_tokenizer_is_there_once() -> None:
    """Each copy of Gemma's own takes seconds, and nobody renders in an engine's process."""
    engine = start(EngineConfig(model=str(BUNDLED["demo"]), max_model_len=256), lambda _: None)
    try:
        assert not isinstance(engine.renderer.tokenizer, ThreadSafeHFTokenizerMixin)
    finally:
        engine.engine_core.shutdown()
    assert vllm.renderers.hf.maybe_make_thread_pool is COPYING
