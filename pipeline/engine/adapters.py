"""LoRA adapters: whether they fit the model, what vLLM must know of them, what identifies them.

An adapter is a folder as PEFT writes it. It is checked by its files' headers before anything
starts; which names its layers have there, and which of ours they are, is `gemma3_model`'s to know,
so they are compared with the model's by what all namings have in common: from `layers` on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.contract.config import UNNAMED
from pipeline.contract.errors import UserError
from pipeline.engine.model_files import read_json
from pipeline.engine.models.fetched import fetched, folder_of, is_fetched
from pipeline.engine.weights import WeightsFile, read_weights_file

if TYPE_CHECKING:
    from pipeline.contract.config import EngineConfig
    from pipeline.storage.location import StorageOptions

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM (0.32) takes as `max_lora_rank`."""
MOST_AT_ONCE = 8
"""Adapters that one step may use, each of which costs memory on the device; rows of others wait."""
LAYER = re.compile(r"(?P<prefix>.*?)(?P<layer>layers\.\d+\..+)")
SIDE = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight")
TOWER = "vision_tower"
PROJECTOR = "multi_modal_projector"
REFUSED = {
    "use_dora": "is a DoRA",
    "modules_to_save": "replaces whole layers (modules_to_save)",
    "layer_replication": "replicates layers",
    "alora_invocation_tokens": "is an aLoRA",
    "lora_bias": "has biases (lora_bias)",
    "use_qalora": "is a QALoRA",
}
"""Fields of PEFT's configuration with which vLLM (0.32) would refuse the first row, and why."""
KEEP_FIX = "merge it into the model (PEFT's merge_and_unload), or train a plain LoRA"

Place = tuple[bool, str]
"""Whether a layer is of the tower, and its name from `layers` on."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A complete adapter.

    Attributes:
        name: By which rows choose it.
        path: Its folder on this machine.
        rank: The largest of its layers.
        changes_tower: Whether it changes the vision tower.
    """

    name: str
    path: Path
    rank: int
    changes_tower: bool

    @property
    def identity(self) -> str:
        """What tells it from another one: every byte of what vLLM reads. Raises OSError."""
        digest = hashlib.sha256()
        for name in (CONFIG, WEIGHTS):
            digest.update((self.path / name).read_bytes())
        return f"sha256:{digest.hexdigest()[:32]}"


def check_choice(config: EngineConfig) -> None:
    """Check that it is known which row has which adapter.

    Raises:
        UserError: It is not.
    """
    if config.lora_column is not None and not config.lora:
        raise UserError("lora_column: names the rows' adapters, and there are none; give lora")
    if config.lora_column is not None and UNNAMED in config.lora:
        raise UserError(
            f"lora: '{config.lora[UNNAMED]}' needs a name, by which lora_column chooses it: "
            "NAME=PATH"
        )
    if config.lora_column is None and len(config.lora) > 1:
        raise UserError(
            f"lora: which rows have which of {', '.join(config.lora)}? lora_column names the "
            "column that says it"
        )


def fetch_adapters(
    config: EngineConfig, options: StorageOptions | None = None
) -> Mapping[str, str]:
    """Bring all adapters to this machine.

    Returns:
        By name, under which name every machine finds the same; see `fetched`.

    Raises:
        UserError: One cannot be had.
    """
    found = {}
    for name, named in config.lora.items():
        pinned = fetched(named, options)
        found[name] = pinned if is_fetched(pinned) else str(Path(named).expanduser().absolute())
    return found


def read_adapters(config: EngineConfig) -> Sequence[Adapter]:
    """The adapters of an engine; they are on this machine.

    Raises:
        UserError: One is incomplete, damaged, or of a kind that vLLM does not run.
    """
    return [_read(name, named) for name, named in config.lora.items()]


def check_adapters(config: EngineConfig, model: str, weights: Sequence[WeightsFile]) -> None:
    """Check that each adapter fits the model.

    Args:
        config: The engine.
        model: The model, for messages.
        weights: Its weights.

    Raises:
        UserError: One does not, is incomplete or damaged, or needs a higher rank than is allowed.
    """
    wanted = config.engine_args.get("max_lora_rank")
    allowed = wanted if isinstance(wanted, int) else RANKS[-1]
    for adapter in read_adapters(config):
        if adapter.rank > allowed:
            raise UserError(
                f"lora: {_shown(adapter.name, config)} has rank {adapter.rank}, more than "
                f"{allowed} (engine_args max_lora_rank; vLLM takes up to {RANKS[-1]})"
            )
        shapes = _shapes(read_weights_file(str(adapter.path), adapter.path / WEIGHTS))
        _check_shapes(_shown(adapter.name, config), shapes, model, weights)


def vllm_arguments(config: EngineConfig) -> dict[str, Any]:
    """Arguments of vLLM's engine for the adapters; none without any. Raises UserError."""
    adapters = read_adapters(config)
    if not adapters:
        return {}
    rank = max(adapter.rank for adapter in adapters)
    at_once = min(len(adapters), MOST_AT_ONCE)
    return {
        "enable_lora": True,
        "max_lora_rank": next(allowed for allowed in RANKS if allowed >= rank),
        "max_loras": at_once,
        "max_cpu_loras": max(len(adapters), at_once),
        "enable_tower_connector_lora": any(adapter.changes_tower for adapter in adapters),
    }


def _shown(name: str, config: EngineConfig) -> str:
    return f"'{name}' ({config.lora[name]})"


def _read(name: str, named: str) -> Adapter:
    path = folder_of(named) or Path(named)
    what = f"adapter {named}"
    if not path.is_dir():
        raise UserError(f"lora: {what} is not a folder here, nor on the hub; correct its name")
    for file in (CONFIG, WEIGHTS):
        if not (path / file).exists():
            raise UserError(
                f"lora: {what} has no {file}, as PEFT's save_pretrained writes it; is it a LoRA "
                "adapter's folder, saved as safetensors?"
            )
    config = read_json(str(path), path / CONFIG)
    if config.get("peft_type", "LORA") != "LORA":
        raise UserError(f"lora: {what} is a {config['peft_type']}, not a LoRA; {KEEP_FIX}")
    for field, kind in REFUSED.items():
        if config.get(field):
            raise UserError(f"lora: {what} {kind}, which vLLM does not run; {KEEP_FIX}")
    tensors = read_weights_file(str(path), path / WEIGHTS).tensors
    if any(PROJECTOR in tensor for tensor in tensors):
        raise UserError(f"lora: {what} changes the {PROJECTOR}, which has no layer for it")
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise UserError(f"lora: {what}: {CONFIG} has no rank ('r'); is it a LoRA adapter's?")
    changes_tower = any(TOWER in tensor for tensor in tensors)
    return Adapter(name=name, path=path, rank=max(ranks), changes_tower=changes_tower)


def _shapes(file: WeightsFile) -> dict[str, list[int]]:
    header = json.loads(file.header[8:])
    return {name: header[name]["shape"] for name in file.tensors}


def _check_shapes(
    what: str, shapes: Mapping[str, list[int]], model: str, weights: Sequence[WeightsFile]
) -> None:
    """Compare each product's width with the model's. Raises UserError."""
    layers = _model_layers(weights)
    for tensor, shape in shapes.items():
        side = SIDE.fullmatch(tensor)
        place = side and _place(side["layer"])
        if side is None or place is None:
            continue
        if place not in layers:
            raise UserError(
                f"lora: {what} changes {place[1]}{' of the tower' * place[0]}, which model "
                f"{model} has not; is it another model's?"
            )
        width = layers[place]
        axis = 1 if side["side"] == "A" else 0
        if width is not None and shape[axis] != width[axis]:
            raise UserError(
                f"lora: {what} is another model's: {place[1]} is {shape[axis]} wide there, "
                f"{width[axis]} in {model}"
            )


def _place(layer: str) -> Place | None:
    """Where a layer is, under whatever naming; None for what is in no layer, as the embedding."""
    found = LAYER.fullmatch(layer)
    return found and (TOWER in found["prefix"], found["layer"])


def _model_layers(weights: Sequence[WeightsFile]) -> dict[Place, list[int] | None]:
    """Shape [out, in] by place; None for a layer that is quantized, whose shape is packed."""
    layers: dict[Place, list[int] | None] = {}
    for file in weights:
        header = json.loads(file.header[8:])
        for name in file.tensors:
            stem, _, last = name.rpartition(".")
            place = _place(stem)
            if place is None:
                continue
            is_plain = last == "weight" and header[name]["dtype"] in ("F32", "F16", "BF16")
            if is_plain:
                layers[place] = header[name]["shape"]
            else:
                layers.setdefault(place, None)
    return layers
