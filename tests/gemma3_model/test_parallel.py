"""Two processes, by tensors and by layers, say what transformers says."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemma3_model.inspection import LoadedModel
from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import Reference, engine, forked
from tests.gemma3_model.test_parity import PROMPTS, TOLERANCE, worst


class PipelineWorker(LoadedModel):
    """Gives a pipeline's later processes the buffer that vLLM 0.32 forgets on a CPU.

    The runner makes it while it warms up, and the CPU's runner warms up only what it compiles.
    """

    def make_buffer(self) -> None:
        runner = self.model_runner
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
    worker = f"{PipelineWorker.__module__}.{PipelineWorker.__qualname__}"
    with forked(), engine(folder, pipeline_parallel_size=2, worker_extension_cls=worker) as llm:
        assert len(llm.collective_rpc("make_buffer")) == 2
        differences = worst(llm, Reference(folder), list(PROMPTS))
    assert max(differences.values()) < TOLERANCE, differences
