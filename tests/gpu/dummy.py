"""A checkpoint's folder without weights, for ``load_format="dummy"``: any shape, our tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import Gemma3Config

from tests.gemma3_model.checkpoints import DEMO, TOKENIZER_FILES
from tests.weights import write_weights


def write(folder: Path, config: Gemma3Config) -> Path:
    """Write ``config`` with the ids of our small tokenizer, and a processor of its size."""
    demo = Gemma3Config.from_pretrained(DEMO)
    for name in ("boi_token_index", "eoi_token_index", "image_token_id", "eos_token_id"):
        setattr(config, name, getattr(demo, name))
    config.save_pretrained(folder)
    size = {"height": config.vision_config.image_size, "width": config.vision_config.image_size}
    for name in TOKENIZER_FILES:
        text = (DEMO / name).read_text(encoding="utf-8") if not name.endswith(".model") else None
        if text is None:
            (folder / name).write_bytes((DEMO / name).read_bytes())
            continue
        if name in ("preprocessor_config.json", "processor_config.json"):
            stored = json.loads(text)
            stored.get("image_processor", stored)["size"] = size
            if "image_seq_length" in stored:
                stored["image_seq_length"] = config.mm_tokens_per_image
            text = json.dumps(stored)
        (folder / name).write_text(text, encoding="utf-8")
    # Nobody loads it, but our commands refuse a folder without weights.
    write_weights(folder / "model.safetensors", none=b"none")
    return folder
