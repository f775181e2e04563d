"""LoRA on the decoder and on the tower, against transformers with the adapter merged into it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from vllm import LLM
from vllm.lora.request import LoRARequest

from tests.gemma3_model import checkpoints
from tests.gemma3_model.parity import Prompt, Reference, difference, engine, run
from tests.gemma3_model.test_parity import PROMPTS, TOLERANCE, TURN, sample_image
from tests.gemma3_model.test_weights import NAMINGS, Naming

RANK, ALPHA = 4, 6
DECODER = "language_model.layers."
TOWER = "vision_tower.encoder.layers."
SETTINGS = {"enable_lora": True, "max_lora_rank": 8, "max_loras": 6, "max_cpu_loras": 12}

CROPPED = Prompt(
    text=TURN.format("see <start_of_image> what"),
    images=(sample_image(1).resize((300, 100)),),
    options={"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 64},
)
"""An image and three crops of it: four passes of the tower."""


def text_only(name: str) -> str:
    """As an adapter trained on the decoder alone names its layers."""
    return name.replace("model.language_model.", "model.", 1)


def _prefixed(prefix: str, name: str) -> str:
    return name.replace("model.", prefix, 1)


Change = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""transformers' name of a linear layer -> A [rank, in] and B [out, rank]."""


def random_change(reference: Reference, *parts: str) -> Change:
    """For every linear layer of the decoder, of the tower, or of both."""
    generator = torch.Generator().manual_seed(len(parts[0]) + len(parts))
    return {
        name: (
            torch.randn(RANK, layer.in_features, generator=generator) * layer.in_features**-0.5,
            torch.randn(layer.out_features, RANK, generator=generator) * 0.5,
        )
        for name, layer in reference.model.named_modules()
        if isinstance(layer, torch.nn.Linear) and any(part in name for part in parts)
    }


def saved(folder: Path, change: Change, naming: Naming = str) -> Path:
    """The adapter as PEFT writes it, its layers named as ``naming`` says."""
    folder.mkdir()
    tensors = {}
    for name, (a, b) in change.items():
        key = f"base_model.model.{naming(name + '.weight').removesuffix('.weight')}"
        tensors |= {f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": b}
    save_file(tensors, folder / "adapter_model.safetensors")
    kinds = sorted({name.rpartition(".")[2] for name in change})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": kinds}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@torch.no_grad()
def merged(checkpoint: Path, change: Change, *, has_images: bool = True) -> Reference:
    reference = Reference(checkpoint, has_images=has_images)
    for name, (a, b) in change.items():
        reference.model.get_submodule(name).weight += ALPHA / RANK * b @ a
    return reference


def request(number: int, folder: Path) -> LoRARequest:
    return LoRARequest(folder.name, number, str(folder))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.multimodal(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def base(checkpoint: Path) -> Reference:
    return Reference(checkpoint)


@pytest.fixture(scope="module")
def llm(checkpoint: Path) -> Iterator[LLM]:
    with engine(checkpoint, enable_tower_connector_lora=True, **SETTINGS) as llm:
        yield llm


def test_adapters_in_one_batch(llm: LLM, checkpoint: Path, base: Reference, tmp_path: Path) -> None:
    """None, the tower's alone, the decoder's alone and both, each with images and with crops."""
    changes = [random_change(base, *parts) for parts in ((TOWER,), (DECODER,), (TOWER, DECODER))]
    requests = [
        request(number, saved(tmp_path / str(number), change))
        for number, change in enumerate(changes, 1)
    ]
    references = [base, *(merged(checkpoint, change) for change in changes)]
    cases = [
        (prompt, adapter, reference)
        for prompt in (CROPPED, PROMPTS["three"])
        for adapter, reference in zip([None, *requests], references, strict=True)
    ]
    prompts = [prompt for prompt, _, _ in cases]
    outputs = run(llm, prompts, adapters=[adapter for _, adapter, _ in cases])
    for (prompt, adapter, reference), output in zip(cases, outputs, strict=True):
        assert difference(reference, prompt, output).worst < TOLERANCE
        if adapter is not None and prompt is CROPPED:
            assert difference(base, prompt, output).worst > 10 * TOLERANCE


def test_adapters_under_every_naming(
    llm: LLM, checkpoint: Path, base: Reference, tmp_path: Path
) -> None:
    change = random_change(base, TOWER, DECODER)
    requests = [
        request(number, saved(tmp_path / str(number), change, naming))
        for number, naming in enumerate(NAMINGS, 11)
    ]
    outputs = run(llm, [PROMPTS["one"]] * len(requests), adapters=requests)
    reference = merged(checkpoint, change)
    for output in outputs:
        assert difference(reference, PROMPTS["one"], output).worst < TOLERANCE


def test_an_adapter_of_the_decoder_alone(
    llm: LLM, checkpoint: Path, base: Reference, tmp_path: Path
) -> None:
    change = random_change(base, DECODER)
    folder = saved(tmp_path / "decoder", change, text_only)
    (output,) = run(llm, [PROMPTS["one"]], adapters=[request(21, folder)])
    assert difference(merged(checkpoint, change), PROMPTS["one"], output).worst < TOLERANCE


def test_text_only(tmp_path: Path) -> None:
    """Adapters that name the decoder as one inside a model with images, too."""
    folder = checkpoints.text_only(tmp_path)
    change = random_change(Reference(folder, has_images=False), "model.layers.")
    requests = [
        request(
            number,
            saved(tmp_path / str(number), change, partial(_prefixed, prefix)),
        )
        for number, prefix in enumerate(
            ("model.", "language_model.model.", "model.language_model."), 1
        )
    ]
    with engine(folder, **SETTINGS) as llm:
        outputs = run(llm, [PROMPTS["no image"]] * len(requests), adapters=requests)
    reference = merged(folder, change, has_images=False)
    for output in outputs:
        assert difference(reference, PROMPTS["no image"], output).worst < TOLERANCE


def test_an_adapter_of_the_projector_is_refused(llm: LLM, tmp_path: Path) -> None:
    """Its product is no linear layer of transformers' either; an adapter is never just ignored."""
    change = {"model.multi_modal_projector": (torch.zeros(RANK, 96), torch.zeros(64, RANK))}
    folder = saved(tmp_path / "projector", change)
    with pytest.raises(ValueError, match="multi_modal_projector"):
        llm.llm_engine.add_lora(request(31, folder))
