"""Decides how a trained model is saved: with the names and files of a Gemma 3 on the Hub.

transformers 5.19 would save the vision tower of a new model as `vision_tower.encoder.*`, without
the `vision_model.` that the Hub's checkpoints have and vLLM 0.32 expects (vllm PR #42923 describes
the change). This can go once `save_pretrained` writes the Hub's names.
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
"""Prefixes in memory, and on the Hub. `lm_head` is tied to the embedding and is not saved."""


def hub_name(name: str) -> str:
    """The Hub's name of the parameter that transformers calls `name` in memory.

    Raises:
        ValueError: The parameter is not part of such a checkpoint.
    """
    for prefix, hub_prefix in HUB_PREFIXES.items():
        if name.startswith(prefix):
            return hub_prefix + name.removeprefix(prefix)
    raise ValueError(f"no checkpoint name for the parameter {name!r}")


def save_model(
    model: Gemma3ForConditionalGeneration, weights: dict[str, torch.Tensor], folder: Path
) -> None:
    """Write a checkpoint without its processor.

    Args:
        model: The model, for its configuration.
        weights: The weights to save, by their names in `model`.
        folder: The folder; it is made if it does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        hub_name(name): tensor.detach().float().contiguous()
        for name, tensor in weights.items()
        if name != "lm_head.weight"
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
