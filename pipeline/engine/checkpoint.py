"""A model's folder: whether it is complete, what identifies it, and what it limits.

What the model is like is its `ModelProfile`. Read by the driver, so this needs neither torch nor
vLLM.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.contract.errors import UserError
from pipeline.engine.profile import ModelProfile, read_profile

if TYPE_CHECKING:
    from pipeline.contract.config import EngineConfig

WHOLE_HASH_BYTES = 64 * 2**20
"""Folders up to this size are identified by every byte; larger ones by names and sizes."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model folder that looks complete.

    Attributes:
        path: Absolute.
        identity: Hash of the folder: of every file's name and size, of the content of
            `config.json`, and in folders up to `WHOLE_HASH_BYTES` of the content of every file.
        profile: What the model is like.
    """

    path: Path
    identity: str
    profile: ModelProfile


def open_checkpoint(model: str) -> Checkpoint:
    """Check a model's folder, as the user named it.

    Raises:
        UserError: It is missing, incomplete, or not a Gemma 3.
    """
    profile = read_profile(model)
    path = Path(model).expanduser().resolve()
    if not any(path.glob("*.safetensors")):
        raise UserError(f"model {model} has no *.safetensors weights; download it completely")
    if not any((path / name).exists() for name in ("tokenizer.json", "tokenizer.model")):
        raise UserError(
            f"model {model} has no tokenizer.json or tokenizer.model beside its weights"
        )
    return Checkpoint(path=path, identity=_identity(path), profile=profile)


def resolve_engine(config: EngineConfig, checkpoint: Checkpoint) -> EngineConfig:
    """The configuration with the model's absolute path, and `max_model_len` within its limit."""
    longest = min(config.max_model_len, checkpoint.profile.max_positions)
    return config.model_copy(update={"model": str(checkpoint.path), "max_model_len": longest})


def _identity(path: Path) -> str:
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name[0] != ".")
    whole = sum(file.stat().st_size for file in files) <= WHOLE_HASH_BYTES
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        if whole or file.name == "config.json":
            digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()[:32]}"
