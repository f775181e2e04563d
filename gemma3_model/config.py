"""Decides how a checkpoint's configuration is read: sizes, the local/global pattern, positions.

Reads the Hugging Face configuration objects; checks what our layers assume of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from transformers import Gemma3Config, Gemma3TextConfig, SiglipVisionConfig

LayerType = Literal["sliding_attention", "full_attention"]

LOCAL: Final[LayerType] = "sliding_attention"
GLOBAL: Final[LayerType] = "full_attention"


def layer_type(config: Gemma3TextConfig, layer: int) -> LayerType:
    """Whether decoder layer ``layer`` (from 0) looks at a window or at everything before it.

    In every Gemma 3 five local layers are followed by a global one, layer i being global iff
    (i + 1) % 6 == 0 (technical report, arXiv 2503.19786, section 2); the configuration spells
    the pattern out, and what it says holds.

    Raises:
        ValueError: the configuration names another kind of layer.
    """
    kind = config.layer_types[layer]
    if kind not in (LOCAL, GLOBAL):
        raise ValueError(f"layer_types[{layer}] is {kind!r}; Gemma 3 has {LOCAL!r} and {GLOBAL!r}.")
    return kind  # type: ignore[no-any-return]


def layer_window(config: Gemma3TextConfig, layer: int) -> int | None:
    """Tokens that layer ``layer`` sees, its own included; None where it sees all."""
    return int(config.sliding_window) if layer_type(config, layer) == LOCAL else None


def patches_per_side(config: SiglipVisionConfig) -> int:
    """Patches along one side of the square image (64 for 896 pixels in patches of 14).

    Raises:
        ValueError: the image is not a whole number of patches.
    """
    if config.image_size % config.patch_size:
        raise ValueError(
            f"vision_config.image_size {config.image_size} is not a multiple of "
            f"patch_size {config.patch_size}."
        )
    return int(config.image_size // config.patch_size)


def soft_tokens_per_side(config: Gemma3Config) -> int:
    """Soft tokens along one side of an image (16 for the 256 of the released models).

    Raises:
        ValueError: ``mm_tokens_per_image`` is no square, or does not divide the patches.
    """
    side = math.isqrt(config.mm_tokens_per_image)
    if side * side != config.mm_tokens_per_image:
        raise ValueError(f"mm_tokens_per_image {config.mm_tokens_per_image} is not a square.")
    if patches_per_side(config.vision_config) % side:
        raise ValueError(
            f"mm_tokens_per_image {config.mm_tokens_per_image} does not divide the "
            f"{patches_per_side(config.vision_config)} patches a side."
        )
    return side
