"""Decides which of our parameters a tensor of a checkpoint fills. The one table of names.

Gemma 3 checkpoints exist under several namings, by who wrote them (T is a tensor's own name, from
``layers.`` or ``encoder.`` on):

    the hub                       language_model.model.T, vision_tower.vision_model.T
    transformers 4.52 to 4.57     model.language_model.T, model.vision_tower.vision_model.T
    transformers 5, saved         language_model.model.T, vision_tower.T
    transformers 5, in memory     model.language_model.T, model.vision_tower.T
    ShieldGemma 2's converter     model.language_model.model.T, model.vision_tower.vision_model.T
    the same, by transformers 5   model.model.language_model.model.T, model.model.vision_tower.T
    text only, all                model.T

with ``multi_modal_projector.T`` wrapped as the tower is, and ``lm_head``, where it is not tied,
beside the decoder or at the top.

Ours are the hub's without ``vision_model.``. Each renaming is applied to the whole name, in
order. A name that no parameter answers to is an error, and so is a parameter that no name fills;
both are named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from vllm.model_executor.models.utils import AutoWeightsLoader, WeightsMapper

if TYPE_CHECKING:
    from torch import Tensor, nn

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

_RENAMINGS: Final = {
    # Wrappers first: `model.` once or twice around everything.
    re.compile(
        r"^(?:model\.)+(language_model|vision_tower|multi_modal_projector|lm_head)\."
    ): r"\1.",
    re.compile(r"^language_model\.(?!model\.|lm_head\.)"): "language_model.model.",
    re.compile(r"^vision_tower\.vision_model\."): "vision_tower.",
    re.compile(r"^lm_head\."): "language_model.lm_head.",
}

TEXT_WEIGHTS: Final = WeightsMapper(orig_to_new_stacked=_STACKED)
"""For ``Gemma3ForCausalLM``: the names are ours already, three parts go into one product."""

MULTIMODAL_WEIGHTS: Final = WeightsMapper(
    orig_to_new_regex=_RENAMINGS, orig_to_new_stacked=_STACKED
)
"""For ``Gemma3ForConditionalGeneration``, whichever way the checkpoint was written."""

Part = tuple[str, str | int | None]
"""A parameter of ours, and which share of a fused one (None for the others)."""


def load_weights(
    module: nn.Module,
    weights: Iterable[tuple[str, Tensor]],
    mapper: WeightsMapper,
    *,
    is_quantized: bool,
) -> set[str]:
    """Fill ``module`` from a checkpoint's tensors; returns the names of what was filled.

    vLLM checks the names of a checkpoint that it has no place for, and is content when tensors
    of a linear layer are missing (0.32, ``track_weights_loading``): the layer then runs on what
    the memory held. So completeness is checked here, except for quantized checkpoints, whose
    parameters are made by the quantization method and not by us.

    Raises:
        ValueError: a tensor is not in the table, or is missing from the checkpoint.
    """
    seen: set[Part] = set()

    def recorded() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in mapper.apply(weights):
            seen.add((name, getattr(tensor, "shard_id", None)))
            yield name, tensor

    loaded: set[str] = AutoWeightsLoader(module).load_weights(recorded())
    missing = [part for part in _parts(module) if part not in seen]
    if missing and not is_quantized:
        first = ", share ".join(str(piece) for piece in missing[0] if piece is not None)
        raise ValueError(
            f"The checkpoint lacks {len(missing)} of the model's weights, among them {first}; "
            "the download may be incomplete."
        )
    return loaded


def _parts(module: nn.Module) -> Iterator[Part]:
    """Everything that a checkpoint must bring to fill ``module``."""
    for name, _ in module.named_parameters():
        shares = [share for fused, share in _STACKED.values() if f"{fused}." in name]
        if not shares:
            yield name, None
        for share in shares:
            yield name, share
