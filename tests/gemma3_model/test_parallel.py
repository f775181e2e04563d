"""Two processes, by tensors and by layers, say what transformers says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import Reference, engine, forked
from tests.gemma3_model.test_parity import PROMPTS, TOLERANCE, worst


def make_buffer(worker: Any) -> None:
    """Give a pipeline's later processes the buffer that vLLM 0.32 forgets on a CPU.

    The runner makes it while it warms up, and the CPU's runner warms up only what it compiles.
    """
    runner = worker.model_runner
    runner.intermediate_tensors = runner.model.make_empty_intermediate_tensors(
        runner.max_num_tokens, runner.dtype, runner.device
    )


@pytest.mark.parametrize("kv_heads", [2, 1])
def test_tensor_parallel(tmp_path: Path, kv_heads: int) -> None:
    """With one key head, as 270M and 1B have it, both processes hold it."""
    folder = checkpoints.multimodal(tmp_path, num_key_value_heads=kv_heads)
    with forked(), engine(folder, tensor_parallel_size=2) as llm:
        assert len(llm.collective_rpc("loaded_model_class")) == 2
        differences = worst(llm, Reference(folder), list(PROMPTS))
    assert max(differences.values()) < TOLERANCE, differences


def test_pipeline_parallel(tmp_path: Path) -> None:
    folder = checkpoints.multimodal(tmp_path)
    with forked(), engine(folder, pipeline_parallel_size=2) as llm:
        assert len(llm.collective_rpc(make_buffer)) == 2
        differences = worst(llm, Reference(folder), list(PROMPTS))
    assert max(differences.values()) < TOLERANCE, differences
