"""Decides which of our parameters a tensor of a checkpoint fills. The one table of names.

Gemma 3 checkpoints exist under several namings, by who wrote them (T is a tensor's own name, from
``layers.`` or ``encoder.`` on):

    the hub                       language_model.model.T, vision_tower.vision_model.T
    transformers 4.52 to 4.57     model.language_model.T, model.vision_tower.vision_model.T
    transformers 5, saved         language_model.model.T, vision_tower.T
    transformers 5, in memory     model.language_model.T, model.vision_tower.T
    ShieldGemma 2's converter     model.language_model.model.T, model.vision_tower.vision_model.T
    the same, by transformers 5   model.model.language_model.model.T, model.model.vision_tower.T
    text only                     model.T, or any of the decoder's above

with ``multi_modal_projector.T`` wrapped as the tower is, and ``lm_head``, where it is not tied,
beside the decoder or at the top, and ``vision_tower.head.T``, which belongs to no Gemma 3: a SigLIP
made without ``vision_use_head=False`` has a pooling head that is not used. It is left out.

Ours are the hub's without ``vision_model.``, and ``model.T`` for text only. Each renaming is
applied to the whole name, in order; to names of modules as well, in a LoRA adapter and in the list
of what a quantized checkpoint leaves alone. A name that no parameter answers to is an error, and so
is a parameter that no name fills; both are named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod
from vllm.model_executor.models.utils import AutoWeightsLoader, WeightsMapper

if TYPE_CHECKING:
    from torch import Tensor, nn
    from vllm.model_executor.layers.quantization import QuantizationConfig

PACKED_MODULES: Final = {
    "qkv_proj": ["q_proj", "k_proj", "v_proj"],
    "gate_up_proj": ["gate_proj", "up_proj"],
}
"""Our fused product -> the checkpoint's parts of it, in order."""

_STACKED: Final[dict[str, tuple[str, str | int]]] = {
    ".q_proj": (".qkv_proj", "q"),
    ".k_proj": (".qkv_proj", "k"),
    ".v_proj": (".qkv_proj", "v"),
    ".gate_proj": (".gate_up_proj", 0),
    ".up_proj": (".gate_up_proj", 1),
}

_END: Final = r"(?=\.|$)"
"""Of a name's part: the dot behind it, or the end of a module's name."""

_RENAMINGS: Final[dict[re.Pattern[str], str | None]] = {
    # Wrappers first: `model.` once or twice around everything.
    re.compile(
        rf"^(?:model\.)+(language_model|vision_tower|multi_modal_projector|lm_head){_END}"
    ): r"\1",
    re.compile(rf"^language_model(?!\.model|\.lm_head){_END}"): "language_model.model",
    re.compile(rf"^vision_tower\.vision_model{_END}"): "vision_tower",
    re.compile(rf"^lm_head{_END}"): "language_model.lm_head",
    # transformers ignores it as well.
    re.compile(rf"^vision_tower\.head{_END}"): None,
    # An adapter that was trained on the decoder alone.
    re.compile(rf"^model\.(layers|embed_tokens|norm){_END}"): r"language_model.model.\1",
}

_TEXT_RENAMINGS: Final[dict[re.Pattern[str], str | None]] = {
    re.compile(rf"^(?:model\.)*language_model(?:\.model)?\.lm_head{_END}"): "lm_head",
    re.compile(rf"^(?:model\.)*language_model(?:\.model)?{_END}"): "model",
}

TEXT_WEIGHTS: Final = WeightsMapper(orig_to_new_regex=_TEXT_RENAMINGS, orig_to_new_stacked=_STACKED)
"""For ``Gemma3ForCausalLM``, whose checkpoint may be the decoder of a multimodal one."""

MULTIMODAL_WEIGHTS: Final = WeightsMapper(
    orig_to_new_regex=_RENAMINGS, orig_to_new_stacked=_STACKED
)
"""For ``Gemma3ForConditionalGeneration``, under any of the namings above."""

Part = tuple[str, str | int | None]
"""A parameter of ours, and which share of a fused one (None for the others)."""

_NEEDED_WHEN_QUANTIZED: Final = frozenset(
    {"weight", "qweight", "weight_packed", "bias", "scales", "weight_scale", "weight_scale_inv"}
)
"""Parameters without which a quantized layer has no values. A valid checkpoint may lack the others,
such as zero points and the order of activations."""


def load_weights(
    module: nn.Module,
    weights: Iterable[tuple[str, Tensor]],
    mapper: WeightsMapper,
    quant_config: QuantizationConfig | None,
) -> set[str]:
    """Fill ``module`` from a checkpoint's tensors; returns the names of what was filled.

    vLLM refuses tensors that it has no parameter for, but accepts that tensors of a linear layer
    are missing (0.32, ``track_weights_loading``), which then runs on uninitialised memory. So
    completeness is checked here, of quantized layers as far as :data:`_NEEDED_WHEN_QUANTIZED` goes.

    Raises:
        ValueError: a tensor is not in the table, or is missing from the checkpoint.
    """
    if quant_config is not None:
        mapper |= quant_config.get_cache_scale_mapper()
    needed = list(_parts(module))
    seen: set[Part] = set()

    def recorded() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in mapper.apply(weights):
            seen.add((name, getattr(tensor, "shard_id", None)))
            yield name, tensor

    loaded: set[str] = AutoWeightsLoader(module).load_weights(recorded())
    missing = [part for part in needed if part not in seen]
    if missing:
        first = ", share ".join(str(piece) for piece in missing[0] if piece is not None)
        raise ValueError(
            f"The checkpoint lacks {len(missing)} of the model's weights, among them {first}; "
            "the download may be incomplete."
        )
    return loaded


def _parts(module: nn.Module) -> Iterator[Part]:
    """Everything that a checkpoint must have to fill ``module``."""
    dispensable = set(_dispensable(module))
    for name, _ in module.named_parameters():
        if name in dispensable:
            continue
        shares = [share for fused, share in _STACKED.values() if f"{fused}." in name]
        if not shares:
            yield name, None
        for share in shares:
            yield name, share


def _dispensable(module: nn.Module) -> Iterator[str]:
    """Names of parameters of a quantization method that a checkpoint need not fill."""
    for prefix, layer in module.named_modules():
        method = getattr(layer, "quant_method", None)
        if method is None or isinstance(
            method, (UnquantizedLinearMethod, UnquantizedEmbeddingMethod)
        ):
            continue
        for name, _ in layer.named_parameters(recurse=False):
            if name not in _NEEDED_WHEN_QUANTIZED:
                yield f"{prefix}.{name}"
