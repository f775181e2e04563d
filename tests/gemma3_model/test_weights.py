"""Every naming of a checkpoint fills the same parameters; a foreign or missing one is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from gemma3_model.weights import MULTIMODAL_WEIGHTS, TEXT_WEIGHTS
from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import Reference, difference, engine, run
from tests.gemma3_model.test_parity import PROMPTS, TOLERANCE

Naming = Callable[[str], str]
"""From transformers 5's name of a parameter in memory to the name in a file."""


def hub(name: str) -> str:
    return transformers_5(name).replace("vision_tower.", "vision_tower.vision_model.", 1)


def transformers_4_52(name: str) -> str:
    return name.replace("vision_tower.", "vision_tower.vision_model.", 1)


def transformers_5(name: str) -> str:
    return name.removeprefix("model.").replace("language_model.", "language_model.model.", 1)


def shieldgemma2(name: str) -> str:
    return f"model.{hub(name)}"


def shieldgemma2_transformers_5(name: str) -> str:
    return f"model.model.{transformers_5(name)}"


NAMINGS: tuple[Naming, ...] = (
    str,
    hub,
    transformers_4_52,
    transformers_5,
    shieldgemma2,
    shieldgemma2_transformers_5,
)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("model.language_model.norm.weight", "language_model.model.norm.weight"),
        (
            "model.language_model.layers.3.self_attn.k_proj.weight",
            "language_model.model.layers.3.self_attn.qkv_proj.weight",
        ),
        (
            "model.vision_tower.encoder.layers.1.self_attn.q_proj.bias",
            "vision_tower.encoder.layers.1.self_attn.qkv_proj.bias",
        ),
        (
            "model.multi_modal_projector.mm_soft_emb_norm.weight",
            "multi_modal_projector.mm_soft_emb_norm.weight",
        ),
    ],
)
def test_all_namings_map_to_ours(theirs: str, ours: str) -> None:
    assert [MULTIMODAL_WEIGHTS.map_name(naming(theirs)) for naming in NAMINGS] == [ours] * 6


@pytest.mark.parametrize(
    "name",
    [
        "lm_head.weight",
        "language_model.lm_head.weight",
        "model.language_model.lm_head.weight",
        "model.lm_head.weight",
    ],
)
def test_the_head_is_found_wherever_it_is(name: str) -> None:
    assert MULTIMODAL_WEIGHTS.map_name(name) == "language_model.lm_head.weight"


@pytest.mark.parametrize("naming", NAMINGS)
def test_the_towers_unused_head_is_left_out(naming: Naming) -> None:
    """As any SigLIP has that was made without `vision_use_head=False`; transformers ignores it."""
    assert MULTIMODAL_WEIGHTS.map_name(naming("model.vision_tower.head.probe")) is None
    assert MULTIMODAL_WEIGHTS.map_name(naming("model.vision_tower.heads.probe")) is not None


@pytest.mark.parametrize(
    "theirs",
    [
        "model.layers.0.mlp.down_proj.weight",
        "language_model.model.layers.0.mlp.down_proj.weight",
        "model.language_model.layers.0.mlp.down_proj.weight",
        "model.language_model.model.layers.0.mlp.down_proj.weight",
    ],
)
def test_a_decoder_alone_is_found_under_every_naming(theirs: str) -> None:
    assert TEXT_WEIGHTS.map_name(theirs) == "model.layers.0.mlp.down_proj.weight"


@pytest.mark.parametrize(
    "theirs", ["lm_head", "language_model.lm_head", "model.language_model.lm_head"]
)
def test_a_decoder_s_head_is_found(theirs: str) -> None:
    assert TEXT_WEIGHTS.map_name(f"{theirs}.weight") == "lm_head.weight"


def rewrite(folder: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_files_may_hold_the_decoder_in_pieces(tmp_path: Path) -> None:
    """As the hub's 4B does: some of the decoder beside the tower, the rest in the next file."""
    folder = checkpoints.multimodal(tmp_path)
    reference = Reference(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {
        name: "1.safetensors"
        if "layers.3." in name or "language_model" not in name
        else "2.safetensors"
        for name in tensors
    }
    for file in ("1.safetensors", "2.safetensors"):
        part = {name: tensor for name, tensor in tensors.items() if files[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with engine(folder) as llm:
        (output,) = run(llm, [PROMPTS["one"]])
    assert difference(reference, PROMPTS["one"], output).worst < TOLERANCE


def test_a_checkpoint_with_the_towers_head_loads(tmp_path: Path) -> None:
    folder = checkpoints.multimodal(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    own = next(name for name in tensors if name.endswith("post_layernorm.weight"))
    prefix = own.removesuffix("post_layernorm.weight")
    head = {f"{prefix}head.{name}": tensors[own].clone() for name in ("probe", "layernorm.weight")}
    rewrite(folder, {**tensors, **head})
    reference = Reference(folder)
    with engine(folder) as llm:
        (output,) = run(llm, [PROMPTS["one"]])
    assert difference(reference, PROMPTS["one"], output).worst < TOLERANCE


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
