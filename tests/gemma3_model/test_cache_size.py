"""Local layers hold their window and global ones the context: our figures against vLLM's cache."""

from __future__ import annotations

from pathlib import Path

import pytest
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.plugins import load_general_plugins
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import get_kv_cache_config_from_groups, get_kv_cache_groups
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.request import Request

from tests.gemma3_model.cache_size import allocated_bytes, global_only_bytes, needed_bytes
from tests.gemma3_model.sizes import SHAPES, text_config
from tests.gemma3_model.test_family import ours

GB = 10**9
STEP = 8192
BLOCK_SIZE = 32

NEEDED_GB = {  # size: (32k, the same with global layers only, 128k, the same)
    "1b": (0.15, 0.87, None, None),
    "4b": (0.79, 4.56, 2.81, 18.3),
    "12b": (2.48, 12.9, 8.93, 51.5),
    "27b": (3.12, 16.6, 11.2, 66.6),
}


@pytest.mark.parametrize("size", list(NEEDED_GB))
def test_figures(size: str) -> None:
    config = text_config(size)
    seen = [
        figure(config, length) / GB
        for length in (32 * 1024, 128 * 1024)
        for figure in (needed_bytes, global_only_bytes)
    ]
    for reckoned, expected in zip(seen, NEEDED_GB[size], strict=True):
        assert expected is None or reckoned == pytest.approx(expected, rel=0.005, abs=0.006)


def engine_config(folder: Path, size: str, *, hybrid: bool) -> VllmConfig:
    load_general_plugins()
    text_config(size).save_pretrained(folder)
    config = EngineArgs(
        model=str(folder),
        dtype="bfloat16",
        skip_tokenizer_init=True,
        enforce_eager=True,
        block_size=BLOCK_SIZE,
        max_num_batched_tokens=STEP,
        disable_hybrid_kv_cache_manager=not hybrid,
    ).create_engine_config()
    config.cache_config.kv_cache_layout = "LBHNC"
    return config


def cache_of_our_model(folder: Path, size: str, *, hybrid: bool) -> tuple[KVCacheConfig, int]:
    """vLLM's division of its cache among our layers, and the bytes of one block of it."""
    vllm_config = engine_config(folder, size, hybrid=hybrid)
    ours(vllm_config)
    layers = vllm_config.compilation_config.static_forward_context
    specs = {name: layer.get_kv_cache_spec(vllm_config) for name, layer in layers.items()}
    groups = get_kv_cache_groups(vllm_config, specs)
    config = text_config(size)
    pool_bytes = 2 * global_only_bytes(config, config.max_position_embeddings)
    cache = get_kv_cache_config_from_groups(vllm_config, groups, pool_bytes)
    return cache, cache.kv_cache_tensors[0].size // cache.num_blocks


def held_blocks(cache: KVCacheConfig, length: int) -> int:
    """Blocks of a request after a prompt in steps and one generated token, as vLLM counts them."""
    manager = KVCacheManager(
        cache,
        max_model_len=length,
        scheduler_block_size=BLOCK_SIZE,
        hash_block_size=BLOCK_SIZE,
        max_in_flight_tokens=STEP,
        enable_caching=False,
    )
    request = Request("request", [1] * length, SamplingParams(), None)
    free = manager.block_pool.get_num_free_blocks()
    steps = [STEP] * ((length - 1) // STEP) + [(length - 1) % STEP, 1]
    for tokens in filter(None, steps):
        assert manager.allocate_slots(request, tokens) is not None
        request.num_computed_tokens += tokens
    return free - manager.block_pool.get_num_free_blocks()


@pytest.mark.parametrize("size", list(SHAPES))
def test_vllm_holds_what_we_say(tmp_path: Path, size: str) -> None:
    config = text_config(size)
    cache, block_bytes = cache_of_our_model(tmp_path, size, hybrid=True)
    for length in (300, 5000, config.max_position_embeddings):
        held = held_blocks(cache, length) * block_bytes
        assert held == allocated_bytes(config, length, block_size=BLOCK_SIZE)
    # What rounding and padding add to a full context: 8 layers of 60 in the largest model.
    assert held / needed_bytes(config, length) < 1.1
    assert held < 0.25 * global_only_bytes(config, length)


def test_without_the_hybrid_cache_vllm_holds_everything(tmp_path: Path) -> None:
    """The comparison sees a difference where there is one."""
    cache, block_bytes = cache_of_our_model(tmp_path, "270m", hybrid=False)
    held = held_blocks(cache, 32 * 1024) * block_bytes
    assert held == global_only_bytes(text_config("270m"), 32 * 1024)
