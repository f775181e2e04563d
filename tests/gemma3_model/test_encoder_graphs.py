"""The tower under vLLM's manager of encoder graphs.

A CPU has no CUDA graphs: here a replay calls what would have been captured, on the buffers that
would have been captured with it. That graphs are really captured is for ``tests/gpu``.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from vllm import LLM
from vllm.config import VllmConfig
from vllm.model_executor.models.interfaces import supports_encoder_cudagraph
from vllm.v1.worker.encoder_cudagraph import BudgetGraphMetadata, EncoderCudaGraphManager

from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import engine

SIDE = 112
SOFT = checkpoints.SOFT_TOKENS
STEP = 100
"""Tokens of a step: six views and a rest."""


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    folder = checkpoints.multimodal(tmp_path_factory.mktemp("tiny"))
    with engine(folder, max_num_batched_tokens=STEP, max_num_seqs=4) as llm:
        yield llm


class RecordedManager(EncoderCudaGraphManager):
    """vLLM's, with a replay that a CPU can do."""

    def record(self) -> None:
        for budget in self.token_budgets:
            inputs = self.model.prepare_encoder_cudagraph_capture_inputs(
                budget, self.max_batch_size, self.max_frames_per_batch, self.device, self.dtype
            )
            output = torch.full_like(self.model.encoder_cudagraph_forward(inputs.values), torch.nan)
            self._get_graph_set()[budget] = BudgetGraphMetadata(
                token_budget=budget,
                max_batch_size=self.max_batch_size,
                max_frames_per_batch=self.max_frames_per_batch,
                graph=self._graph(inputs.values, output),
                input_buffers=inputs.values,
                output_buffer=output,
            )

    def _graph(self, values: dict[str, torch.Tensor], output: torch.Tensor) -> Any:
        def replay() -> None:
            output.copy_(self.model.encoder_cudagraph_forward(values))

        return SimpleNamespace(replay=replay)


def manager(vllm_config: VllmConfig, model: nn.Module) -> RecordedManager:
    made = RecordedManager(vllm_config, torch.device("cpu"), torch.float32, model)
    made.record()
    return made


def images(*views: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(views))
    shape = (sum(views), 3, SIDE, SIDE)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return {"pixel_values": pixels, "num_views": torch.tensor(views)}


def replayed(llm: LLM, batches: list[dict[str, torch.Tensor]]) -> tuple[list[float], list[int]]:
    """Largest difference of each batch to the tower without graphs; budgets, hits and misses."""

    def compare(model: nn.Module) -> tuple[list[float], list[int]]:
        assert supports_encoder_cudagraph(model)
        graphs = manager(llm.llm_engine.vllm_config, model)
        with torch.inference_mode():
            found = [_difference(model, graphs, batch) for batch in batches]
        return found, [*graphs.token_budgets, graphs.graph_hits, graphs.graph_misses]

    (answer,) = llm.apply_model(compare)
    return answer


def _difference(model: Any, graphs: RecordedManager, batch: dict[str, torch.Tensor]) -> float:
    seen, expected = graphs.execute(dict(batch)), model.embed_multimodal(**batch)
    assert [each.shape for each in seen] == [each.shape for each in expected]
    return max(
        float((each - wanted).abs().max()) for each, wanted in zip(seen, expected, strict=True)
    )


def test_replayed_they_are_what_they_were(llm: LLM) -> None:
    """Of one size after another, so that what an earlier replay left would be seen."""
    batches = [images(*views) for views in ((1,), (1, 1, 1), (3, 1, 2), (1, 5), (2,))]
    differences, (*budgets, hits, misses) = replayed(llm, batches)
    assert max(differences) < 1e-5
    assert budgets == [SOFT, 2 * SOFT, 4 * SOFT, 6 * SOFT]
    assert (hits, misses) == (10, 0)


def test_what_fits_into_no_graph_runs_without(llm: LLM) -> None:
    differences, (*_, hits, misses) = replayed(llm, [images(7), images(8, 1)])
    assert max(differences) < 1e-5
    assert (hits, misses) == (1, 2)
