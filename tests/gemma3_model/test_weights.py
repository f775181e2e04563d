"""Every naming of a checkpoint fills the same parameters; a foreign or missing one is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from gemma3_model.weights import MULTIMODAL_WEIGHTS
from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import engine


def hub(name: str) -> str:
    """transformers 5's name of a tensor to the hub's."""
    name = name.removeprefix("model.")
    if name.startswith("language_model."):
        return name.replace("language_model.", "language_model.model.", 1)
    return name.replace("vision_tower.", "vision_tower.vision_model.", 1)


def transformers_4_52(name: str) -> str:
    """transformers 5's name of a tensor to the one that 4.52 to 4.57 wrote."""
    return name.replace("vision_tower.", "vision_tower.vision_model.", 1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.multimodal(tmp_path_factory.mktemp("names"))


def canonical(names: list[str]) -> list[str]:
    """All names in transformers 5's form, with the prefix that its in-memory models have."""
    return [name if name.startswith("model.") else f"model.{name}" for name in names]


def test_all_namings_map_to_one(checkpoint: Path) -> None:
    names = [
        name.replace(".vision_model.", ".")
        for name in canonical(list(load_file(checkpoint / "model.safetensors")))
    ]
    assert any(name.startswith("model.vision_tower.encoder.layers.0.") for name in names), names
    ours = [MULTIMODAL_WEIGHTS.map_name(name) for name in names]
    assert [MULTIMODAL_WEIGHTS.map_name(hub(name)) for name in names] == ours
    assert [MULTIMODAL_WEIGHTS.map_name(transformers_4_52(name)) for name in names] == ours
    assert MULTIMODAL_WEIGHTS.map_name("lm_head.weight") == "language_model.lm_head.weight"


def rewrite(folder: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_an_unknown_weight_is_named(tmp_path: Path) -> None:
    folder = checkpoints.multimodal(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layers.0.mlp.down_proj.weight"))
    rewrite(folder, {**tensors, name.replace("down_proj", "surprise"): tensors[name].clone()})
    with pytest.raises(ValueError, match="surprise"), engine(folder):
        pass


@pytest.mark.parametrize("missing", ["0.mlp.down_proj", "0.self_attn.k_proj", "layers.1.mlp.fc1"])
def test_a_missing_weight_is_named(tmp_path: Path, missing: str) -> None:
    folder = checkpoints.multimodal(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if f"{missing}.weight" not in name}
    assert len(kept) < len(tensors)
    rewrite(folder, kept)
    layer = missing.replace("k_proj", "qkv_proj")
    with pytest.raises(ValueError, match=rf"lacks \d of .*{layer}"), engine(folder):
        pass
