"""A tiny random ShieldGemma 2 checkpoint, and transformers' results for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoProcessor, ShieldGemma2ForImageClassification
from transformers.models.shieldgemma2.processing_shieldgemma2 import ShieldGemma2Processor

from tests.gemma3_model import checkpoints

TEMPLATE = Path(__file__).with_name("shieldgemma2.jinja")


def checkpoint(folder: Path, *, soft_tokens: int = 16, side: int = 112, patch: int = 14) -> Path:
    """With ShieldGemma 2's chat template, and the ids of Yes and No in its configuration."""
    vision = {"image_size": side, "patch_size": patch}
    # Longer than a prompt in the bundled tokenizer's many short tokens, as the real window is.
    checkpoints.shieldgemma2(folder, soft_tokens=soft_tokens, vision=vision, sliding_window=1024)
    shutil.copy(TEMPLATE, folder / "chat_template.jinja")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    words = {"yes_token_index": tokenizer["Yes"], "no_token_index": tokenizer["No"]}
    _update(folder / "config.json", words)
    for name in ("preprocessor_config.json", "processor_config.json"):
        stored = json.loads((folder / name).read_text())
        stored.get("image_processor", stored)["size"] = {"height": side, "width": side}
        (folder / name).write_text(json.dumps({**stored, "image_seq_length": soft_tokens}))
    return folder


def _update(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


class Transformers:
    """transformers' own ShieldGemma 2: processor, class, and its softmax."""

    def __init__(self, folder: Path) -> None:
        gemma = AutoProcessor.from_pretrained(folder)
        self.processor = ShieldGemma2Processor(
            gemma.image_processor,
            gemma.tokenizer,
            chat_template=TEMPLATE.read_text(),
            image_seq_length=gemma.image_seq_length,
        )
        self.model = ShieldGemma2ForImageClassification.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    def inputs(self, image: Image.Image, policy: str) -> dict[str, torch.Tensor]:
        """The probability for one of its own policies, by name."""
        # The template has <bos> already; transformers would put a second one before it.
        options = {"add_special_tokens": False, "return_tensors": "pt"}
        return dict(self.processor(images=[image], policies=[policy], **options))

    @torch.no_grad()
    def probability(self, image: Image.Image, policy: str) -> float:
        """Of Yes, the first of the two."""
        return float(self.model(**self.inputs(image, policy)).probabilities[0, 0])
