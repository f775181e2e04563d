"""Random tiny Gemma 3 checkpoints, written to disk as real ones are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    ShieldGemma2Config,
    ShieldGemma2ForImageClassification,
    SiglipVisionConfig,
)

DEMO = Path(__file__).parents[2] / "jobs" / "demo" / "checkpoint"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
)
SOFT_TOKENS = 16
NUM_LAYERS = 7  # one global layer (the sixth) and a local one behind it


def text_config(demo: Gemma3Config, **changes: Any) -> Gemma3TextConfig:
    settings = {
        "vocab_size": demo.text_config.vocab_size,
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "query_pre_attn_scalar": 24,  # not head_dim, as in the 27B model
        "sliding_window": 24,
        "max_position_embeddings": 2048,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
        },
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    return Gemma3TextConfig(**{**settings, **changes})


def full_config(
    *, soft_tokens: int = SOFT_TOKENS, vision: Mapping[str, int] | None = None, **changes: Any
) -> Gemma3Config:
    demo = Gemma3Config.from_pretrained(DEMO)
    settings: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 112,
        "patch_size": 14,
        "vision_use_head": False,
    }
    return Gemma3Config(
        text_config=text_config(demo, **changes),
        vision_config=SiglipVisionConfig(**{**settings, **(vision or {})}),
        mm_tokens_per_image=soft_tokens,
        boi_token_index=demo.boi_token_index,
        eoi_token_index=demo.eoi_token_index,
        image_token_index=demo.image_token_id,
        bos_token_id=2,
        eos_token_id=[1],
        pad_token_id=0,
        architectures=["Gemma3ForConditionalGeneration"],
    )


def _randomise(model: torch.nn.Module) -> None:
    """Weights large enough that attention is far from uniform and every token matters."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim < 2:
            parameter.data = parameter.data + 0.2 * noise
        elif "embed" in name:
            parameter.data = 0.3 * noise
        else:
            fan_in = parameter.shape[1:].numel() if parameter.ndim > 2 else parameter.shape[-1]
            parameter.data = noise * fan_in**-0.5


def with_tokenizer(folder: Path) -> Path:
    for name in TOKENIZER_FILES:
        shutil.copy(DEMO / name, folder / name)
    return folder


def multimodal(folder: Path, **changes: Any) -> Path:
    """A checkpoint with images, its tensors named as transformers 5 names them."""
    model = Gemma3ForConditionalGeneration(full_config(**changes)).float()
    _randomise(model)
    model.save_pretrained(folder)
    return with_tokenizer(folder)


def text_only(folder: Path, **changes: Any) -> Path:
    """A checkpoint without images, as the 270M and 1B models are."""
    demo = Gemma3Config.from_pretrained(DEMO)
    config = text_config(demo, architectures=["Gemma3ForCausalLM"], **changes)
    model = Gemma3ForCausalLM(config).float()
    _randomise(model)
    model.save_pretrained(folder)
    return with_tokenizer(folder)


def shieldgemma2(folder: Path, **changes: Any) -> Path:
    """A checkpoint of ShieldGemma 2's architecture, named as transformers 5 names it."""
    gemma = full_config(**changes)
    config = ShieldGemma2Config(
        text_config=gemma.text_config.to_dict(),
        vision_config=gemma.vision_config.to_dict(),
        mm_tokens_per_image=gemma.mm_tokens_per_image,
        boi_token_index=gemma.boi_token_index,
        eoi_token_index=gemma.eoi_token_index,
        image_token_index=gemma.image_token_id,
        architectures=["ShieldGemma2ForImageClassification"],
    )
    model = ShieldGemma2ForImageClassification(config).float()
    _randomise(model)
    model.save_pretrained(folder)
    return with_tokenizer(folder)
