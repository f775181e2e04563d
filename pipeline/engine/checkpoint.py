"""What can be said of a model's folder without loading it: is it Gemma 3, and which one exactly.

Read by the driver, so it needs neither torch nor vllm. Loading the weights is the engine's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.contract.errors import UserError

if TYPE_CHECKING:
    from pipeline.contract.config import EngineConfig

SHIELDGEMMA2 = "ShieldGemma2ForImageClassification"
ARCHITECTURES = {
    "Gemma3ForConditionalGeneration": True,
    "Gemma3ForCausalLM": False,
    SHIELDGEMMA2: True,
}
"""Architectures the engine runs, and whether each has a vision tower."""
WHOLE_HASH_BYTES = 64 * 2**20
"""Folders up to this size are identified by every byte; larger ones by names and sizes."""


@dataclass(frozen=True)
class Checkpoint:
    """A model folder that looks complete.

    Attributes:
        path: Absolute.
        architecture: The class name in its `config.json`.
        has_vision: Whether it takes images.
        max_positions: The longest sequence it was made for, in tokens.
        identity: Hash of `config.json` and of the other files: their content in small folders,
            their names and sizes in large ones.
        template: Its chat template, in Jinja; empty where it has none.
    """

    path: Path
    architecture: str
    has_vision: bool
    max_positions: int
    identity: str
    template: str = ""


def open_checkpoint(model: str) -> Checkpoint:
    """Check a model folder.

    Raises:
        UserError: It is missing, incomplete, or not a Gemma 3.
    """
    path = Path(model).expanduser().resolve()
    config = _read_config(model, path)
    architecture = _architecture(model, config)
    if not any(path.glob("*.safetensors")):
        raise UserError(f"model {model} has no *.safetensors weights; download it completely")
    if not any((path / name).exists() for name in ("tokenizer.json", "tokenizer.model")):
        raise UserError(
            f"model {model} has no tokenizer.json or tokenizer.model beside its weights"
        )
    return Checkpoint(
        path=path,
        architecture=architecture,
        has_vision=ARCHITECTURES[architecture],
        max_positions=_max_positions(config),
        identity=_identity(path),
        template=chat_template(path) or "",
    )


def chat_template(path: Path) -> str | None:
    """The chat template in a model's folder: the processor's, else the tokenizer's, else None.

    Both may have one and differ, and images are in the processor's. It is a file of its own
    (`chat_template.jinja` since transformers 4.51, `chat_template.json` before), or lies in the
    tokenizer's configuration.
    """
    jinja = path / "chat_template.jinja"
    if jinja.exists():
        return jinja.read_text(encoding="utf-8")
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        file = path / name
        template = json.loads(file.read_bytes()).get("chat_template") if file.exists() else None
        if isinstance(template, str):
            return template
    return None


def fitted(engine: EngineConfig, checkpoint: Checkpoint) -> EngineConfig:
    """The configuration with the model's folder made absolute and the model's own limit kept."""
    longest = min(engine.max_model_len, checkpoint.max_positions)
    return engine.model_copy(update={"model": str(checkpoint.path), "max_model_len": longest})


def _read_config(model: str, path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise UserError(
            f"model {model} is not a folder here; give --model the folder of a downloaded "
            "Gemma 3 checkpoint, or 'demo' for the bundled one"
        )
    try:
        config = json.loads((path / "config.json").read_text())
    except FileNotFoundError:
        raise UserError(f"model {model} has no config.json; is it a checkpoint's folder?") from None
    except (OSError, ValueError) as error:
        raise UserError(f"model {model}: config.json cannot be read ({error})") from None
    if not isinstance(config, dict):
        raise UserError(f"model {model}: config.json is not a JSON object")
    return config


def _architecture(model: str, config: dict[str, Any]) -> str:
    declared = config.get("architectures") or ["nothing"]
    for name in declared:
        if name in ARCHITECTURES:
            return str(name)
    raise UserError(f"model {model} is {declared[0]}, not a Gemma 3 ({' or '.join(ARCHITECTURES)})")


def _max_positions(config: dict[str, Any]) -> int:
    # The hub's 4B config leaves the value out; transformers' default for it is 131,072.
    text = config.get("text_config", config)
    return int(text.get("max_position_embeddings", 131072))


def _identity(path: Path) -> str:
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name[0] != ".")
    whole = sum(file.stat().st_size for file in files) <= WHOLE_HASH_BYTES
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        if whole or file.name == "config.json":
            digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()[:32]}"
