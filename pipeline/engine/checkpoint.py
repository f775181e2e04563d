"""A model's folder: whether it is complete, what identifies it, and what it limits.

What the model is like is its `ModelProfile`, whether its weights are whole is checked in `weights`,
what identifies it is decided in `identity`. Read by the driver before anything starts, so this
needs neither torch nor vLLM.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.contract.errors import UserError
from pipeline.engine.adapters import check_adapters, check_choice, fetch_adapters
from pipeline.engine.identity import Identity, identify
from pipeline.engine.model_files import (
    PREPROCESSOR_FILES,
    check_tokenizer,
    model_folder,
    read_json,
    token_id,
)
from pipeline.engine.models.fetched import fetched, is_fetched
from pipeline.engine.profile import END_OF_TURN, ModelProfile, read_profile
from pipeline.engine.quantized import check_quantization
from pipeline.engine.weights import WeightsFile, read_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.contract.config import EngineConfig, PromptFormat
    from pipeline.storage.location import StorageOptions

SETTINGS = ("generation_config.json", "tokenizer_config.json", *PREPROCESSOR_FILES)
"""Files of JSON that a checkpoint may have, beside `config.json`."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model folder that is complete.

    Attributes:
        name: By which every machine finds it: the path, or for one that was fetched what `fetched`
            returned.
        path: The folder on this machine, absolute.
        identity: What tells it from another model.
        profile: What the model is like, and in which format it is prompted.
        weights: The headers of its weights.
    """

    name: str
    path: Path
    identity: Identity
    profile: ModelProfile
    weights: Sequence[WeightsFile]


def open_checkpoint(
    model: str,
    prompt_format: PromptFormat | None = None,
    *,
    needs_images: bool = False,
    options: StorageOptions | None = None,
) -> Checkpoint:
    """Check a model, as the user named it; one that is not here is fetched first.

    Args:
        model: The folder, `demo`, or whatever `fetched` takes.
        prompt_format: How the user wants to prompt it; see `ModelProfile.prompted`.
        needs_images: Whether it must be able to prepare images.
        options: Arguments of the stores' filesystems, by protocol.

    Raises:
        UserError: It is missing, incomplete, damaged, or not a Gemma 3; or it has no chat template
            and nothing says how to prompt it.
    """
    model = fetched(model, options)
    profile = read_profile(model).prompted(prompt_format, model)
    path = model_folder(model).resolve()
    check_quantization(model, read_json(model, path / "config.json"))
    weights = read_weights(model, path)
    check_tokenizer(model, path)
    if profile.prompt_format == "gemma":
        _check_turns(model, path)
    for name in SETTINGS:
        if (path / name).exists():
            read_json(model, path / name)
    if needs_images and profile.has_vision:
        _check_images(model, path, profile)
    try:
        identity = identify(path, weights)
    except OSError as error:
        raise UserError(
            f"model {model}: {error.filename} cannot be read ({error.strerror})"
        ) from None
    return Checkpoint(
        name=model if is_fetched(model) else str(path),
        path=path,
        identity=identity,
        profile=profile,
        weights=weights,
    )


def _check_images(model: str, path: Path, profile: ModelProfile) -> None:
    """Check that it is known how images are prepared, and where they go in a prompt."""
    if not any((path / name).exists() for name in PREPROCESSOR_FILES):
        raise UserError(
            f"model {model} has no {' or '.join(PREPROCESSOR_FILES)}, which say how images "
            "are prepared; copy them from the model it was made from, or download it completely"
        )
    if not profile.places_images:
        raise UserError(
            f"model {model}: its chat template has no place for images; give --prompt-format gemma "
            "(prompt_format in Python), or the template of the model it was made from"
        )


def _check_turns(model: str, path: Path) -> None:
    """Check that the control strings of Gemma's turns would not be encoded as text."""
    file = path / "tokenizer.json"
    for control in ("<start_of_turn>", END_OF_TURN):
        if file.exists() and token_id(model, path, control) is None:
            raise UserError(
                f"model {model}: its tokenizer has no {control}, so it cannot be prompted in "
                "Gemma's turns; is it a Gemma 3's?"
            )


def resolve_engine(
    config: EngineConfig, checkpoint: Checkpoint, options: StorageOptions | None = None
) -> EngineConfig:
    """The configuration with what the checkpoint decides, and with adapters that fit it.

    That is the model's name for every machine, the format of its prompts, and `max_model_len`
    within its limit.

    Args:
        config: The engine, as the user wants it.
        checkpoint: Its model.
        options: Arguments of the stores' filesystems, by protocol.

    Raises:
        UserError: An adapter cannot be had, does not fit, or nothing says which row has it.
    """
    check_choice(config)
    resolved = config.model_copy(
        update={
            "model": checkpoint.name,
            "model_options": options or {},
            "lora": fetch_adapters(config, options),
            "prompt_format": checkpoint.profile.prompt_format,
            "max_model_len": min(config.max_model_len, checkpoint.profile.max_positions),
        }
    )
    check_adapters(resolved, checkpoint.name, checkpoint.weights)
    return resolved
