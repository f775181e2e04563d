"""What CUDA runs, without CUDA: vLLM's Triton kernels on a CPU, by Triton's own interpreter.

It executes the source of a kernel one block after another, slowly, with the numbers that a GPU
would compute but for rounding. Model Runner V2, the default on GPUs, prepares its steps with such
kernels, so it runs here as well.
"""

from __future__ import annotations

import os

import pytest

if os.environ.get("TRITON_INTERPRET") != "1":
    raise pytest.UsageError("These tests need Triton's interpreter; run `make test-kernels`.")


@pytest.fixture(autouse=True)
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's kernel that writes the cache asks which GPU it is on."""
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
