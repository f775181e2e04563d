"""The process that converts a GGUF file: `python -m pipeline.engine.models.gguf_conversion`.

    gguf_conversion FILE FOLDER

Transformers reads the file (with `gguf` and `accelerate`) and writes the folder of a checkpoint in
bfloat16. Decides what the configuration needs beyond what transformers (5.19) takes over from a
Gemma 3's metadata. A file that cannot be converted ends it with status 2 and one line on the
standard output. Nothing else of ours imports torch for this, so it is a process of its own.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ARCHITECTURE = "gemma3"
LAYERS_OF_27B = 62
"""llama.cpp tells the 27B by it, whose attention is scaled by the width of a head of `hidden_size`
and not by `head_dim` (`LLM_TYPE_27B` in its Gemma 3); the file does not say so."""
REFUSED = 2


def main() -> None:
    """Convert what the arguments name."""
    file, folder = map(Path, sys.argv[1:])
    read_files_once()
    try:
        convert(file, folder)
    except (ValueError, KeyError, NotImplementedError) as error:
        print(" ".join(str(error).split()))
        sys.exit(REFUSED)


def convert(file: Path, folder: Path) -> None:
    """Write a checkpoint's folder.

    Args:
        file: A GGUF file of a Gemma 3's text model, in any of GGUF's number formats.
        folder: Where to; the weights in bfloat16.

    Raises:
        ValueError: It is no GGUF file, or that of another model.
    """
    fields = read_fields(file)
    check_architecture(fields)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    named: dict[str, Any] = {"gguf_file": file.name}
    load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
    model = load(file.parent, dtype=torch.bfloat16, **named)
    complete_config(model.config, fields)
    if (quantizer := getattr(model, "hf_quantizer", None)) is not None:
        quantizer.remove_quantization_config(model)  # since 5.19, which would not save it
    model.save_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, **named)
    tokenizer.save_pretrained(folder)
    for written in folder.iterdir():
        written.chmod(0o644)  # safetensors leaves its own to their owner


def read_files_once() -> None:
    """Let each file be read once and fast in this process.

    Transformers (5.19) reads a file three times, and `gguf` (0.19) takes each of its quarter of a
    million tokens from a `numpy.memmap`, of which slices are slow. That was three quarters of a
    conversion. Can go with llama.cpp's pull request 13378.
    """
    import gguf

    class Reader(gguf.GGUFReader):
        def __setattr__(self, name: str, value: Any) -> None:
            # The same memory, but not as `numpy.memmap`.
            super().__setattr__(name, np.asarray(value) if name == "data" else value)

    vars(gguf)["GGUFReader"] = functools.cache(Reader)


def read_fields(file: Path) -> dict[str, Any]:
    """The file's metadata by name, without the vocabulary. Raises ValueError where it is none."""
    from gguf import GGUFReader

    fields = GGUFReader(str(file)).fields
    return {name: fields[name].contents() for name in fields if ".ggml." not in name}


def check_architecture(fields: dict[str, Any]) -> None:
    """Check that the file is a Gemma 3's text model. Raises ValueError."""
    found = fields.get("general.architecture")
    if found == "clip":
        raise ValueError("holds only a vision tower (mmproj); name the text model's file")
    if found != ARCHITECTURE:
        raise ValueError(f"is a {found}, not a Gemma 3")


def complete_config(config: Any, fields: dict[str, Any]) -> None:
    """Set what transformers leaves at the defaults of the smallest model.

    Args:
        config: The `Gemma3TextConfig` that was read; changed.
        fields: The file's metadata.
    """
    if fields.get("gemma3.rope.scaling.type") == "linear":
        config.rope_parameters["full_attention"] |= {
            "rope_type": "linear",
            "factor": float(fields["gemma3.rope.scaling.factor"]),
        }
    if config.num_hidden_layers == LAYERS_OF_27B:
        config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads
    else:
        config.query_pre_attn_scalar = config.head_dim
    config.rms_norm_eps = float(f"{config.rms_norm_eps:.6g}")  # GGUF has it in single precision


if __name__ == "__main__":
    main()
