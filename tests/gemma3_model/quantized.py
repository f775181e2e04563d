"""Checkpoints quantized by hand, in the layouts that the released ones have."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

GROUP = 32
Tensors = dict[str, Tensor]
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How one linear layer is written, and what the configuration says of it.

    Attributes:
        quantize: [out, in] weight to the tensors of a file and what they stand for, [out, in].
        config: ``quantization_config``, less the list of what is left alone.
        list_name: what the method calls that list.
        rounded: what a quantized layer makes of its inputs [..., in].
    """

    quantize: Callable[[Tensor], tuple[Tensors, Tensor]]
    config: dict[str, Any]
    list_name: str = "modules_to_not_convert"
    rounded: Callable[[Tensor], Tensor] | None = None


def _packed(values: Tensor, order: tuple[int, ...] = tuple(range(8))) -> Tensor:
    """Eight numbers of four bits along the last dimension to one int32."""
    groups = values.to(torch.int64).unflatten(-1, (-1, 8))[..., list(order)]
    words = (groups << (4 * torch.arange(8))).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def _int4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[out, in] numbers from 0 to 15 about 8, [out, groups] scales, and what they stand for."""
    groups = weight.unflatten(-1, (-1, GROUP))
    scale = (groups.abs().amax(-1, keepdim=True) / 7).bfloat16().float()
    numbers = (groups / scale).round().clamp(-8, 7)
    return numbers.flatten(-2) + 8, scale.squeeze(-1), (numbers * scale).flatten(-2)


def compressed_int4(weight: Tensor) -> tuple[Tensors, Tensor]:
    numbers, scale, meant = _int4(weight)
    tensors = {
        "weight_packed": _packed(numbers),
        "weight_scale": scale.bfloat16(),
        "weight_shape": torch.tensor(weight.shape),
    }
    return tensors, meant


def gptq_int4(weight: Tensor) -> tuple[Tensors, Tensor]:
    numbers, scale, meant = _int4(weight)
    zeros = torch.full_like(scale.T, 7)  # one less than 8, as this format has it
    tensors = {
        "qweight": _packed(numbers).T.contiguous(),
        "qzeros": _packed(zeros),
        "scales": scale.T.contiguous().bfloat16(),
        "g_idx": torch.arange(weight.shape[1], dtype=torch.int32) // GROUP,
    }
    return tensors, meant


def awq_int4(weight: Tensor) -> tuple[Tensors, Tensor]:
    numbers, scale, meant = _int4(weight)
    tensors = {
        "qweight": _packed(numbers.T.contiguous(), AWQ_ORDER),
        "qzeros": _packed(torch.full_like(scale.T, 8), AWQ_ORDER),
        "scales": scale.T.contiguous().bfloat16(),
    }
    return tensors, meant


def int8(weight: Tensor, largest: int = 63) -> tuple[Tensors, Tensor]:
    """A scale for each row.

    Half of the range: a CPU without VNNI adds two products in 16 bits, which saturate beyond it
    (oneDNN's guide says so of int8), and vLLM's answers are then off by tenths of a layer's output.
    """
    scale = weight.abs().amax(-1, keepdim=True) / largest
    numbers = (weight / scale).round()
    return {"weight": numbers.to(torch.int8), "weight_scale": scale}, numbers * scale


def _int8_inputs(inputs: Tensor) -> Tensor:
    return int8(inputs, 127)[1]


def float8(weight: Tensor) -> tuple[Tensors, Tensor]:
    """A scale for each row."""
    scale = weight.abs().amax(-1, keepdim=True) / 448
    numbers = (weight / scale).to(torch.float8_e4m3fn)
    return {"weight": numbers, "weight_scale": scale}, numbers.float() * scale


def float8_of_one_scale(weight: Tensor) -> tuple[Tensors, Tensor]:
    scale = weight.abs().max() / 448
    numbers = (weight / scale).to(torch.float8_e4m3fn)
    return {"weight": numbers, "weight_scale": scale}, numbers.float() * scale


def _compressed(layout: str, weights: dict[str, Any], inputs: dict[str, Any] | None) -> Any:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
    }


def _numbers(bits: int, kind: str, strategy: str, **more: Any) -> dict[str, Any]:
    return {"num_bits": bits, "type": kind, "strategy": strategy, "symmetric": True, **more}


SCHEMES = {
    "compressed-tensors int4": Scheme(
        quantize=compressed_int4,
        config=_compressed(
            "pack-quantized", _numbers(4, "int", "group", group_size=GROUP, dynamic=False), None
        ),
        list_name="ignore",
    ),
    "compressed-tensors int8": Scheme(
        quantize=int8,
        config=_compressed(
            "int-quantized",
            _numbers(8, "int", "channel", dynamic=False),
            _numbers(8, "int", "token", dynamic=True),
        ),
        list_name="ignore",
        rounded=_int8_inputs,
    ),
    "compressed-tensors fp8": Scheme(
        quantize=float8,
        config=_compressed(
            "float-quantized",
            _numbers(8, "float", "channel", dynamic=False),
            _numbers(8, "float", "token", dynamic=True),
        ),
        list_name="ignore",
        rounded=lambda inputs: float8(inputs)[1],
    ),
    "fp8": Scheme(
        quantize=float8_of_one_scale,
        config={"quant_method": "fp8", "activation_scheme": "dynamic"},
        rounded=lambda inputs: float8_of_one_scale(inputs)[1],
    ),
    "gptq": Scheme(
        quantize=gptq_int4,
        config={
            "quant_method": "gptq",
            "bits": 4,
            "group_size": GROUP,
            "desc_act": False,
            "sym": True,
        },
    ),
    "awq": Scheme(
        quantize=awq_int4,
        config={
            "quant_method": "awq",
            "bits": 4,
            "group_size": GROUP,
            "zero_point": True,
            "version": "gemm",
        },
    ),
}


def is_of_the_decoder(layer: str) -> bool:
    """The decoder's products."""
    return "language_model" in layer and "_proj" in layer


def write(folder: Path, scheme: Scheme, left_alone: list[str]) -> Path:
    """Quantize the decoder of the checkpoint in ``folder``; returns the folder of its equal.

    The equal is the same checkpoint with each weight replaced by what was written for it.
    """
    equal = folder / "equal"
    equal.mkdir()
    for file in folder.iterdir():
        if file.is_file():
            (equal / file.name).write_bytes(file.read_bytes())
    stored, meant = {}, load_file(folder / "model.safetensors")
    for name, tensor in list(meant.items()):
        layer, _, kind = name.rpartition(".")
        if kind == "weight" and is_of_the_decoder(layer):
            tensors, meant[name] = scheme.quantize(tensor)
            stored |= {f"{layer}.{part}": value.contiguous() for part, value in tensors.items()}
        else:
            stored[name] = tensor.bfloat16()
            meant[name] = tensor.bfloat16().float()
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    save_file(
        {name: tensor.contiguous() for name, tensor in meant.items()},
        equal / "model.safetensors",
        metadata={"format": "pt"},
    )
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {**scheme.config, scheme.list_name: left_alone}
    (folder / "config.json").write_text(json.dumps(config))
    return equal
