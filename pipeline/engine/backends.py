"""Which engine a run has: vLLM in processes of its own, or a server that runs already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.engine.checkpoint import Checkpoint, open_checkpoint, resolve_engine
from pipeline.engine.endpoint.client import address_of
from pipeline.engine.endpoint.engine import endpoint_backend
from pipeline.engine.endpoint.served import ServedModel, open_served
from pipeline.engine.vllm_engine import VLLM

if TYPE_CHECKING:
    from pipeline.contract.config import EngineConfig, PromptFormat
    from pipeline.engine.interface import Backend

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
) -> Model:
    """Check a model, as the user named it.

    Args:
        model: The folder of a checkpoint; with an endpoint, the model's name there.
        prompt_format: How the user wants to prompt it.
        endpoint: The server that runs it, if there is one.
        needs_images: Whether it must be able to prepare images.

    Raises:
        UserError: It cannot be run; see `open_checkpoint` and `open_served`.
    """
    if endpoint is None:
        return open_checkpoint(model, prompt_format, needs_images=needs_images)
    return open_served(address_of(endpoint), model, prompt_format)


def resolve_model(config: EngineConfig, model: Model) -> EngineConfig:
    """The configuration with what the model decides."""
    if isinstance(model, ServedModel):
        return model.resolve(config)
    return resolve_engine(config, model)
