"""What all tests have: how engines run on this CPU, stores, one Ray cluster, and who runs what.

`make test` runs three processes of tests (pytest-xdist), each with whole files: those that take
long come first, so that all processes end at about the same time.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from jobs import Engine
from pipeline.engine.model_files import BUNDLED
from pipeline.execution.cluster import start_ray
from tests.forking import SOCKET, fork_server, forking
from tests.real_model import find as find_real_model
from tests.stores import gcs, rgw, s3
from tests.weights import write_weights

__all__ = ["gcs", "rgw", "s3"]

ENGINES = {
    # `LLM` in the test's own process, where it can be reached into; elsewhere an engine and its
    # worker in one process. Each process imports vLLM, which takes eight seconds of a CPU.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # Sampling with log-probabilities would compile a kernel first, which takes eleven seconds.
    "TORCHDYNAMO_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    # The models are so small that a second thread does nothing but wait, and that busily.
    "OMP_NUM_THREADS": "1",
}
"""Environment variables, read by vLLM and torch when they are first imported."""

FEW_IDLE = {
    "RAY_num_workers_soft_limit": "3",
    "RAY_idle_worker_killing_time_threshold_ms": "5000",
}
"""A forked worker starts in no time, and an idle one wakes up a hundred times a second."""

LONGEST = (
    "tests/jobs/sdk/test_functions.py",
    "tests/real/test_parity.py",
    "tests/docs/test_recipes.py",
    "tests/pipeline/execution/test_resume.py",
    "tests/chaos/test_chaos.py",
    "tests/pipeline/execution/test_retry.py",
    "tests/pipeline/profiling/test_slow_stages.py",
    "tests/chaos/test_poison.py",
    "tests/chaos/test_real_engine.py",
    "tests/deploy/test_slurm.py",
    "tests/real/test_structured_output.py",
    "tests/pipeline/execution/test_output_formats.py",
    "tests/pipeline/execution/test_object_stores.py",
    "tests/jobs/test_models.py",
    "tests/jobs/test_endpoint.py",
    "tests/jobs/captioning/test_end_to_end.py",
    "tests/pipeline/metrics/test_scraped.py",
)
"""The files that take longest, the longest first."""
WARM = (
    "tests/jobs/sdk/test_functions.py",
    "tests/jobs/moderation/test_end_to_end.py",
    "tests/jobs/captioning/test_answers_in_a_run.py",
    "tests/jobs/cli/test_bench.py",
    "tests/jobs/forecast/test_end_to_end.py",
    "tests/deploy/test_examples.py",
    "tests/pipeline/execution/test_earlier_version.py",
)
"""The files that use `warm_engine`, which starts once for them together."""


def pytest_configure(config: pytest.Config) -> None:
    """Set how engines run, before anything is collected; on a GPU they run as they are."""
    if "gpu" not in config.option.markexpr:
        for name, value in ENGINES.items():
            os.environ.setdefault(name, value)


def pytest_collection_finish() -> None:
    """Keep Python's garbage collector from walking through all that was imported.

    vLLM asks it to, nine times for each engine, which took most of an engine's start and end. And
    it lets it forget which objects are there to stay (`gc.unfreeze`, 0.32), so that is turned off.
    """
    gc.collect()
    gc.freeze()
    gc.freeze = gc.unfreeze = lambda: None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.location[0], len(LONGEST)))


class OneWarmEngine(LoadFileScheduling):
    """Whole files for each process; those that use the warm engine for one of them."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return WARM[0] if file in WARM else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneWarmEngine:
    """Which process of tests gets which files."""
    return OneWarmEngine(config, log)


@pytest.fixture
def gemma_folder(tmp_path: Path) -> Path:
    """A folder that passes for an instruction-tuned Gemma 3 as long as nobody loads it."""
    folder = tmp_path / "gemma"
    folder.mkdir()
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {"max_position_embeddings": 1024},
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_weights(folder / "model.safetensors", weight=b"weights")
    for name in ("tokenizer.json", "chat_template.jinja", "preprocessor_config.json"):
        shutil.copy(BUNDLED["demo"] / name, folder)
    return folder


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The folder of a real Gemma 3; the test is skipped where there is none."""
    return find_real_model()


@pytest.fixture(scope="session", autouse=True)
def forked_workers() -> Iterator[None]:
    """Ray's workers and engines are forked, those of the commands that tests start too."""
    with fork_server() as socket, forking(socket):
        yield


@pytest.fixture(scope="module")
def unforked_workers() -> Iterator[None]:
    """What this module and its commands start has workers and engines as users' have."""
    from ray._private import ray_constants

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(SOCKET)
        patch.setattr(ray_constants, "SETUP_WORKER_FILENAME", "setup_worker.py")
        yield


@pytest.fixture(scope="session")
def ray_cluster(forked_workers: None) -> Iterator[None]:  # noqa: ARG001
    """One small cluster for all tests of this process."""
    import ray

    os.environ.update(FEW_IDLE)
    start_ray(debug=False, num_cpus=2, object_store_memory=512 * 2**20)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def warm_engine(ray_cluster: None) -> Iterator[Engine]:  # noqa: ARG001
    """The bundled model, loaded once for all tests of the jobs in this process."""
    with Engine(model="demo", max_images=2) as engine:
        yield engine
