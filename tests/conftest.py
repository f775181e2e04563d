from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.execution.cluster import WORKERS
from tests.stores import gcs, rgw, s3

__all__ = ["gcs", "rgw", "s3"]


@pytest.fixture
def gemma_folder(tmp_path: Path) -> Path:
    """A folder that passes for a Gemma 3 checkpoint as long as nobody loads it."""
    folder = tmp_path / "gemma"
    folder.mkdir()
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {"max_position_embeddings": 1024},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One small cluster for all tests that use a fake engine."""
    import ray

    os.environ.update(WORKERS)
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=512 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
    )
    yield
    ray.shutdown()
