"""Decides which attention backends may run a model that takes images: those that apply its mask.

With a backend that does not, no token of an image attends to those after it, and answers are
wrong without an error. vLLM 0.32 refuses such a choice on CUDA, late and in a worker; accepts it
with a warning on XPU; and on a CPU runs its own kernels whatever was chosen. So the user's choice
is checked before anything loads, and again in each layer.

FlexAttention declares support for the mask and lacks it: it leaves out every block of the cache
that begins after the current queries (0.32, ``FlexAttentionMetadata._build_block_mask_direct``),
and so most of what an image's tokens attend to ahead of them. vLLM runs it only when asked to.

A CUDA graph of a whole step is recorded with a step without images, and replays that step's mask
for every other. So only decoding steps may be recorded whole.

Models without images, and engines that take none, may have any backend and any graphs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vllm.platforms import current_platform
from vllm.v1.attention.backends.registry import AttentionBackendEnum

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.attention.backend import AttentionBackend

CUTS_IMAGES: Final = frozenset({AttentionBackendEnum.FLEX_ATTENTION.name})
"""Backends that declare support for the mask of images and lack it.

FlexAttention can go when its block mask includes the blocks of ``mm_prefix_range``."""

FIX = "leave the attention backend to vLLM, or set language_model_only to take no images."


def refuse_chosen_backends(vllm_config: VllmConfig) -> None:
    """Check ``attention_backend`` and ``backend_per_kind`` of a configuration.

    Raises:
        ValueError: the engine takes images, and a backend chosen for it would not apply their
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
        # vLLM's only one; ours takes its place (see gemma3_model.attention).
        if chosen is not AttentionBackendEnum.CPU_ATTN:
            raise ValueError(f"The attention backend {chosen.name} does not run on a CPU; {FIX}")
        return
    try:
        backend = chosen.get_class()
    except ImportError:
        return  # vLLM names the missing package when it selects.
    require_image_mask(backend)


def refuse_recorded_masks(vllm_config: VllmConfig) -> None:
    """Check ``cudagraph_mode``, after vLLM has decided on it.

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
        ValueError: with it an image's tokens do not attend to each other in both directions.
    """
    if not backend.supports_mm_prefix() or backend.get_name() in CUTS_IMAGES:
        raise ValueError(
            f"The attention backend {backend.get_name()} hides from each token of an image "
            f"those after it, which makes answers about images wrong; {FIX}"
        )
