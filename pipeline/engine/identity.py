"""What identifies a model, so that a run is never continued with another one.

Small folders by every byte. Of larger ones reading every byte would take minutes before each run:
of their weights it is the headers and a sample of every tensor, so that two fine-tunes of one size
differ; of the files that say how the model is run (configuration, tokenizer, templates) every byte.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.engine.weights import WeightsFile

WHOLE_HASH_BYTES = 64 * 2**20
"""Folders up to this size are identified by every byte."""
SAMPLE_BYTES = 4096
"""Read of a tensor's start, middle and end; a page, so that more would cost no less."""
READ_WHOLE = {".json", ".jinja", ".model", ".txt"}
"""Kinds of files that decide how weights are run; no others do (a README, an optimizer's state)."""
REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What identifies a model.

    Attributes:
        now: Of its content.
        before: What the versions up to 0.1 recorded in its place; of a large folder only the names
            and sizes of its files, by which two fine-tunes of one size are the same. Runs that
            were begun with it can be finished: there is no better knowledge of what they ran.
        revision: The commit on the hub, where the folder is one of a hub's cache.
    """

    now: str
    before: str
    revision: str | None = None


def identify(path: Path, weights: Sequence[WeightsFile]) -> Identity:
    """Identify the model in a folder.

    Args:
        path: The folder.
        weights: Its weights.

    Raises:
        OSError: A file cannot be read.
    """
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name[0] != ".")
    is_small = sum(file.stat().st_size for file in files) <= WHOLE_HASH_BYTES
    before = _names_and_sizes(files, is_whole=is_small)
    return Identity(
        now=before if is_small else _sampled(files, weights),
        before=before,
        revision=_revision(path),
    )


def _names_and_sizes(files: Sequence[Path], *, is_whole: bool) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        if is_whole or file.name == "config.json":
            digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()[:32]}"


def _sampled(files: Sequence[Path], weights: Sequence[WeightsFile]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if file.suffix in READ_WHOLE:
            digest.update(f"{file.name} {file.stat().st_size}\n".encode())
            digest.update(file.read_bytes())
    for of_weights in weights:
        digest.update(of_weights.path.name.encode())
        digest.update(of_weights.header)
        for sample in _samples(of_weights):
            digest.update(sample)
    return f"sha256-samples:{digest.hexdigest()[:32]}"


def _samples(weights: WeightsFile) -> Iterator[bytes]:
    """Start, middle and end of every tensor, in the order of the file."""
    with weights.path.open("rb") as file:
        for begin, end in sorted(weights.tensors.values()):
            places = {begin, (begin + end - SAMPLE_BYTES) // 2, end - SAMPLE_BYTES}
            for place in sorted(max(begin, place) for place in places):
                length = min(SAMPLE_BYTES, end - place)
                yield os.pread(file.fileno(), length, place)


def _revision(path: Path) -> str | None:
    """`.../snapshots/<commit>` in the cache of huggingface_hub."""
    is_snapshot = path.parent.name == "snapshots" and REVISION.fullmatch(path.name)
    return path.name if is_snapshot else None
