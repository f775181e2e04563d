"""Decides which attention backends may run a model that takes images: those that keep its mask.

A backend without image masks would make every token of an image blind to those after it, and
the answers wrong without a word. vLLM 0.32 refuses such a choice on CUDA, late and in a worker;
takes it with a warning on XPU; and on a CPU takes its own kernels whatever was chosen. So the
user's choice is looked at before anything loads, and what a layer ended up with once more.

FlexAttention says that it keeps the mask and does not: it leaves out every block of the cache that
begins behind the queries at hand (0.32, ``FlexAttentionMetadata._build_block_mask_direct``), and
with them most of what an image's tokens see ahead. vLLM takes it only when it is chosen.

A CUDA graph of a whole step is recorded over a step without images, and replays that one's mask
over any. So only steps that decode may be recorded whole.

Models without images, and engines told to take none, may have any backend and any graphs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm.platforms import current_platform
from vllm.v1.attention.backends.registry import AttentionBackendEnum

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.attention.backend import AttentionBackend

CUTS_IMAGES: Final = frozenset({AttentionBackendEnum.FLEX_ATTENTION.name})
"""Backends that say they keep the mask of images, and do not.

FlexAttention can go from here when its block mask has the blocks of ``mm_prefix_range``."""

FIX = "leave the attention backend to vLLM, or set language_model_only to take no images."


def refuse_chosen_backends(vllm_config: VllmConfig) -> None:
    """Look at ``attention_backend`` and ``backend_per_kind`` of a configuration.

    Raises:
        ValueError: the engine takes images, and a backend chosen for it would not keep their
            mask, or would not be the one that runs.
    """
    if not vllm_config.model_config.is_mm_prefix_lm:
        return
    attention = vllm_config.attention_config
    for chosen in (attention.backend, *attention.backend_per_kind.values()):
        if chosen is not None:
            _refuse_chosen(chosen)


def _refuse_chosen(chosen: AttentionBackendEnum) -> None:
    if current_platform.is_cpu():
        # The one there is; ours takes its place (see gemma3_model.attention).
        if chosen is not AttentionBackendEnum.CPU_ATTN:
            raise ValueError(f"The attention backend {chosen.name} does not run on a CPU; {FIX}")
        return
    try:
        backend = chosen.get_class()
    except ImportError:
        return  # vLLM names the missing package as it selects.
    require_image_mask(backend)


def refuse_recorded_masks(vllm_config: VllmConfig) -> None:
    """Look at ``cudagraph_mode``, once vLLM has decided on it.

    vLLM 0.32 lowers ``FULL`` by itself where a backend cannot be recorded with a prompt, which
    Triton's can; its default is ``FULL_AND_PIECEWISE``.

    Raises:
        ValueError: the engine takes images, and steps with prompts would be recorded whole.
    """
    mode = vllm_config.compilation_config.cudagraph_mode
    if mode and mode.mixed_mode().name == "FULL" and vllm_config.model_config.is_mm_prefix_lm:
        raise ValueError(
            "cudagraph_mode FULL records prompts without their images' mask, which makes answers "
            "about images wrong; set FULL_AND_PIECEWISE, or language_model_only to take no "
            "images."
        )


def require_image_mask(backend: type[AttentionBackend]) -> None:
    """Check the backend of a layer whose tokens may be an image's.

    Raises:
        ValueError: with it images do not see themselves in both directions.
    """
    if not backend.supports_mm_prefix() or backend.get_name() in CUTS_IMAGES:
        raise ValueError(
            f"The attention backend {backend.get_name()} hides from each token of an image "
            f"those after it, which makes answers about images wrong; {FIX}"
        )
