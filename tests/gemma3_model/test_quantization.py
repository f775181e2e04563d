"""Quantized checkpoints: who is quantized, that nothing is missing, and what comes out.

What vLLM 0.32 can compute depends on the CPU: int8 and fp8 of compressed-tensors on every one, int4
(compressed-tensors, GPTQ, AWQ) where vLLM's CPU library has the product, which the one for AVX2
lacks. There the checkpoint is loaded and its layers are looked at, and the numbers are not. ``fp8``
needs CUDA to put three layers' scales into one; of that only the layers are looked at.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod

from gemma3_model.quantization import of_the_tower
from gemma3_model.weights import PACKED_MODULES
from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import Reference, built, engine
from tests.gemma3_model.quantized import SCHEMES, Scheme, is_of_the_decoder, write
from tests.gemma3_model.test_parity import worst

TOLERANCE = 1.5
"""Nats. bfloat16 alone is worth 0.3 on these checkpoints, and 0.9 where it tips an input of a layer
from one fp8 number to the next."""

LAYER_TOLERANCE = 0.03
"""Of the length of a layer's output. Behind the norms that follow, a wrong scale is hardly seen."""

TOWER_LAYERS = [
    f"model.vision_tower.vision_model.encoder.layers.{layer}.{kind}"
    for layer in range(2)
    for kind in (
        *(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")),
        *("mlp.fc1", "mlp.fc2"),
    )
]
LEFT_ALONE = {  # in the ways that are found, each under another naming
    "compressed-tensors int4": ["lm_head", r"re:model\.vision_tower.*"],
    "compressed-tensors int8": ["lm_head", *TOWER_LAYERS],
    "compressed-tensors fp8": ["re:.*lm_head", "re:.*vision_model.*"],
    "fp8": ["lm_head", "model.vision_tower", "model.multi_modal_projector"],
    "gptq": [],  # vLLM reads from the files which layers are quantized
    "awq": ["vision_tower", "multi_modal_projector"],
}


INT4 = ("compressed-tensors int4", "gptq", "awq")


def assert_only_the_decoder(layers: dict[str, bool]) -> None:
    quantized = {layer for layer, is_quantized in layers.items() if is_quantized}
    assert quantized == {layer for layer in layers if is_of_the_decoder(layer)}


def quantized_layers(model: nn.Module) -> dict[str, bool]:
    return {
        name: not isinstance(layer.quant_method, UnquantizedLinearMethod)
        for name, layer in model.named_modules()
        if isinstance(layer, LinearBase)
    }


def outputs(model: nn.Module) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Each quantized layer of the decoder: five random inputs, and what it makes of them."""
    torch.manual_seed(0)
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, LinearBase) and is_of_the_decoder(name):
            inputs = torch.randn(5, layer.input_size).bfloat16()
            found[name] = inputs.float(), layer(inputs)[0].float()
    return found


def weight_of(reference: Reference, name: str) -> torch.Tensor:
    """What our layer ``name``, which may be several of transformers', stands for."""
    parent, _, product = name.replace("language_model.model.", "model.language_model.").rpartition(
        "."
    )
    parts = PACKED_MODULES.get(product, [product])
    return torch.cat([reference.model.get_submodule(f"{parent}.{part}").weight for part in parts])


def reference_of(folder: Path, scheme: Scheme) -> Reference:
    """transformers on the equal of a quantized checkpoint, inputs rounded as its layers do."""
    reference = Reference(folder)
    for name, layer in reference.model.named_modules():
        if scheme.rounded and isinstance(layer, nn.Linear) and is_of_the_decoder(name):
            layer.register_forward_pre_hook(lambda _, args: (scheme.rounded(args[0]),))
    return reference


@pytest.mark.parametrize("name", [name for name in SCHEMES if name != "fp8"])
def test_scheme(tmp_path: Path, name: str) -> None:
    folder = checkpoints.multimodal(tmp_path)
    equal = write(folder, SCHEMES[name], LEFT_ALONE[name])
    with engine(folder, dtype="bfloat16") as llm:
        (layers,) = llm.apply_model(quantized_layers)
        assert_only_the_decoder(layers)
        if name in INT4 and not hasattr(torch.ops._C, "cpu_gemm_wna16"):
            pytest.skip("the checkpoint loads, but this CPU has no product for it")
        (computed,) = llm.apply_model(outputs)
        reference = reference_of(equal, SCHEMES[name])
        differences = worst(llm, reference, ["one", "no image"])
    rounded = SCHEMES[name].rounded or (lambda inputs: inputs)
    for layer, (inputs, output) in computed.items():
        expected = rounded(inputs) @ weight_of(reference, layer).T
        assert (output - expected).norm() < LAYER_TOLERANCE * expected.norm(), layer
    assert max(differences.values()) < TOLERANCE, differences


def test_fp8(tmp_path: Path) -> None:
    folder = checkpoints.multimodal(tmp_path)
    write(folder, SCHEMES["fp8"], LEFT_ALONE["fp8"])
    with built(folder) as model:
        assert_only_the_decoder(quantized_layers(model))


@pytest.mark.parametrize(
    "missing", ["layers.0.mlp.down_proj.weight_scale", "layers.0.input_layernorm.weight"]
)
def test_a_missing_part_is_named(tmp_path: Path, missing: str) -> None:
    folder = checkpoints.multimodal(tmp_path)
    write(folder, SCHEMES["compressed-tensors int8"], TOWER_LAYERS)
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if missing not in name}
    assert len(kept) == len(tensors) - 1
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"lacks 1 of .*{missing}"), engine(folder, dtype="auto"):
        pass


@pytest.mark.parametrize(
    ("entry", "is_the_tower"),
    [
        ("vision_tower", True),
        ("model.vision_tower", True),
        ("vision_tower.vision_model", True),
        ("vision_model", True),
        ("re:vision_tower.*", True),
        (r"re:model\.vision_tower.*", True),
        ("re:.*vision_model.*", True),
        ("re:.*vision.*", True),
        (r"re:.*fc1", False),
        (r"re:.*vision_tower.*layers\.0.*", False),
        ("model.vision_tower.encoder.layers.0.mlp.fc1", False),
        ("lm_head", False),
        ("multi_modal_projector", False),
        ("model", False),
    ],
)
def test_entries_that_mean_the_tower(entry: str, is_the_tower: bool) -> None:
    config = SimpleNamespace(quantization_config={"ignore": [entry]})
    config.get_text_config = lambda: config
    method = object()
    assert of_the_tower(method, config) is (None if is_the_tower else method)
