"""All five released sizes, shape-only: parameter counts, and names under every naming."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Gemma3ForCausalLM, Gemma3ForConditionalGeneration
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed import (
    cleanup_dist_env_and_memory,
    init_distributed_environment,
    initialize_model_parallel,
)
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.plugins import load_general_plugins
from vllm.utils.torch_utils import set_default_torch_dtype

from gemma3_model.weights import MULTIMODAL_WEIGHTS, TEXT_WEIGHTS
from tests.gemma3_model.sizes import SHAPES, TEXT_ONLY, config
from tests.gemma3_model.test_weights import NAMINGS

PARAMETERS = {
    "270m": 268_098_176,
    "1b": 999_885_952,
    "4b": 4_300_079_472,
    "12b": 12_187_325_040,
    "27b": 27_432_406_640,
}


@contextmanager
def single_process(folder: Path) -> Iterator[None]:
    """The process group that vLLM's parallel layers ask for, of this process alone."""
    init_distributed_environment(1, 0, f"file://{folder}/store", 0, "gloo")
    initialize_model_parallel(1, 1)
    try:
        yield
    finally:
        cleanup_dist_env_and_memory()


def engine_config(folder: Path, size: str) -> VllmConfig:
    load_general_plugins()
    config(size).save_pretrained(folder)
    return EngineArgs(
        model=str(folder),
        dtype="bfloat16",
        skip_tokenizer_init=True,
        enforce_eager=True,
        max_model_len=8192,
    ).create_engine_config()


def ours(vllm_config: VllmConfig) -> nn.Module:
    """Our model of a size, on the meta device: shapes and no memory."""
    with (
        set_current_vllm_config(vllm_config),
        single_process(Path(vllm_config.model_config.model)),
        set_default_torch_dtype(torch.bfloat16),
        torch.device("meta"),
    ):
        return initialize_model(vllm_config)


def transformers_names(size: str) -> list[str]:
    architecture = Gemma3ForCausalLM if size in TEXT_ONLY else Gemma3ForConditionalGeneration
    with torch.device("meta"):
        return [name for name, _ in architecture(config(size)).named_parameters()]


@pytest.mark.parametrize("size", list(SHAPES))
def test_shapes_and_names(tmp_path: Path, size: str) -> None:
    model = ours(engine_config(tmp_path, size))
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[size]

    parameters = {name for name, _ in model.named_parameters()}
    names = transformers_names(size)
    if size in TEXT_ONLY:
        assert {TEXT_WEIGHTS.map_name(name) for name in names} == parameters
        return
    for naming in NAMINGS:
        assert {MULTIMODAL_WEIGHTS.map_name(naming(name)) for name in names} == parameters
