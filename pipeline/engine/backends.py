"""Which engine a run has: vLLM in processes of its own, or a server that runs already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.contract.errors import UserError
from pipeline.engine.checkpoint import Checkpoint, open_checkpoint, resolve_engine
from pipeline.engine.endpoint.client import address_of
from pipeline.engine.endpoint.engine import endpoint_backend
from pipeline.engine.endpoint.served import ServedModel, open_served
from pipeline.engine.profile import read_profile
from pipeline.engine.vllm_engine import VLLM

if TYPE_CHECKING:
    from pipeline.contract.config import EngineConfig, PromptFormat
    from pipeline.engine.interface import Backend
    from pipeline.engine.profile import ModelProfile
    from pipeline.storage.location import StorageOptions

Model = Checkpoint | ServedModel
"""What a run knows of its model before anything starts."""


def backend_of(config: EngineConfig) -> Backend:
    """The backend that a configuration asks for."""
    return VLLM if config.endpoint is None else endpoint_backend(config.endpoint)


def open_model(
    model: str,
    prompt_format: PromptFormat | None = None,
    *,
    endpoint: str | None = None,
    needs_images: bool = False,
    options: StorageOptions | None = None,
) -> Model:
    """Check a model, as the user named it.

    Args:
        model: The folder of a checkpoint; with an endpoint, the model's name there.
        prompt_format: How the user wants to prompt it.
        endpoint: The server that runs it, if there is one.
        needs_images: Whether it must be able to prepare images.
        options: Arguments of the stores' filesystems, by protocol.

    Raises:
        UserError: It cannot be run; see `open_checkpoint` and `open_served`.
    """
    if endpoint is None:
        return open_checkpoint(model, prompt_format, needs_images=needs_images, options=options)
    return open_served(address_of(endpoint), model, prompt_format)


def profile_of(
    model: str, prompt_format: PromptFormat | None, *, endpoint: str | None = None
) -> ModelProfile:
    """How a model is prompted; its weights need not be here.

    Args:
        model: The folder of a checkpoint; with an endpoint, the model's name there.
        prompt_format: How the user wants to prompt it.
        endpoint: The server that runs it, if there is one.

    Raises:
        UserError: It is no Gemma 3, or cannot be prompted so.
    """
    if endpoint is None:
        return read_profile(model).prompted(prompt_format, model)
    return open_served(address_of(endpoint), model, prompt_format).profile


def resolve_model(
    config: EngineConfig, model: Model, options: StorageOptions | None = None
) -> EngineConfig:
    """The configuration with what the model decides.

    Args:
        config: The engine, as the user wants it.
        model: Its model.
        options: Arguments of the stores' filesystems, by protocol.

    Raises:
        UserError: An adapter does not fit, or is asked of a server.
    """
    if isinstance(model, ServedModel):
        if config.lora or config.lora_column:
            raise UserError("lora: a server has its own adapters; give the name of one as model")
        return model.resolve(config)
    return resolve_engine(config, model, options)
