"""Decides how much key-value cache a request takes, from a configuration alone.

Local layers keep a window and global layers the whole context, so a long request takes a fraction
of what it would if every layer kept all of it (technical report, arXiv 2503.19786, section 5.2).
vLLM's hybrid cache does this; :func:`allocated_bytes` follows its rounding, in 0.32
``_get_kv_cache_groups_uniform_page_size`` and ``SlidingWindowManager``. docs/gemma3.md has the
figures of :func:`needed_bytes` and :func:`global_only_bytes`.

Figures are of the whole model, all ranks together, as long as there are no more ranks of tensor
parallelism than key heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemma3_model.config import layer_window

if TYPE_CHECKING:
    from transformers import Gemma3TextConfig

BFLOAT16_BYTES = 2


def needed_bytes(
    config: Gemma3TextConfig, length: int, *, element_bytes: int = BFLOAT16_BYTES
) -> int:
    """Bytes of the keys and values that the next token of a request attends to.

    Args:
        config: of the decoder.
        length: tokens of the request so far.
        element_bytes: of one number in the cache; 2 for bfloat16, 1 for fp8.
    """
    local, global_ = _layers(config)
    tokens = local * min(length, _window(config)) + global_ * length
    return tokens * _token_bytes(config, element_bytes)


def global_only_bytes(
    config: Gemma3TextConfig, length: int, *, element_bytes: int = BFLOAT16_BYTES
) -> int:
    """The same, were every layer a global one. Arguments as for :func:`needed_bytes`."""
    return sum(_layers(config)) * length * _token_bytes(config, element_bytes)


def allocated_bytes(
    config: Gemma3TextConfig,
    length: int,
    *,
    block_size: int = 16,
    element_bytes: int = BFLOAT16_BYTES,
) -> int:
    """Bytes that vLLM has set aside for a request which has just computed its last token.

    More than :func:`needed_bytes` by the rest of the blocks at the ends of context and window,
    and by the layers that vLLM pads its groups with. While a prompt is computed, local layers
    hold the tokens of the steps in flight as well.

    Args:
        config: of the decoder.
        length: tokens of the request, the last one's keys and values included.
        block_size: tokens of a block; vLLM's default is 16 on CUDA and 128 on a CPU.
        element_bytes: of one number in the cache.
    """
    local, global_ = _layers(config)
    group = _layers_per_group(local, global_)
    behind_window = max(0, length - _window(config))
    context_blocks = _ceil_div(length, block_size)
    window_blocks = context_blocks - behind_window // block_size
    blocks = _ceil_div(local, group) * window_blocks + _ceil_div(global_, group) * context_blocks
    return blocks * group * block_size * _token_bytes(config, element_bytes)


def _layers(config: Gemma3TextConfig) -> tuple[int, int]:
    """How many layers are local, and how many global."""
    windows = [layer_window(config, layer) for layer in range(config.num_hidden_layers)]
    global_ = windows.count(None)
    return len(windows) - global_, global_


def _window(config: Gemma3TextConfig) -> int:
    return int(config.sliding_window)


def _token_bytes(config: Gemma3TextConfig, element_bytes: int) -> int:
    """Keys and values of one token in one layer."""
    return int(2 * config.num_key_value_heads * config.head_dim * element_bytes)


def _layers_per_group(local: int, global_: int) -> int:
    """vLLM gives every group of layers as many as the rarer kind has, or nearly equal kinds one."""
    fewer, more = sorted((local, global_))
    return more if more < 1.5 * fewer or not fewer else fewer


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
