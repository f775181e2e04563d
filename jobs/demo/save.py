"""Decides how a trained model is written: the names and files of a Gemma 3 on the Hub.

transformers 5.19 saves a model made in memory as `vision_tower.encoder.*`, without the
`vision_model.` that the Hub's checkpoints and vLLM 0.32 expect, so the names are given here.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Gemma3ForConditionalGeneration

HUB_PREFIXES = {
    "model.language_model.": "language_model.model.",
    "model.vision_tower.": "vision_tower.vision_model.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}
"""Prefixes in memory and the Hub's; `lm_head` is the embedding and is not saved again."""


def hub_name(name: str) -> str:
    """The Hub's name of the parameter that transformers calls `name` in memory."""
    for prefix, hub_prefix in HUB_PREFIXES.items():
        if name.startswith(prefix):
            return hub_prefix + name.removeprefix(prefix)
    raise ValueError(f"no checkpoint name for the parameter {name!r}")


def save_model(
    model: Gemma3ForConditionalGeneration, weights: dict[str, torch.Tensor], folder: Path
) -> None:
    """Writes `weights` (by their names in `model`) and `model`'s configuration to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        hub_name(name): tensor.detach().float().contiguous()
        for name, tensor in weights.items()
        if name != "lm_head.weight"
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
