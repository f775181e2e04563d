"""Tests marked ``gpu`` are skipped where there is none, with that reason."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or _has_cuda():
        return
    for item in marked:
        item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU and vLLM for CUDA"))


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
