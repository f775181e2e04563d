"""The options that every job has, and where each option goes.

A job declares its own options in a subclass of `JobOptions`, in its package. Options of the engine
and of the run are declared in `pipeline.contract.config` and inherited here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from jobs.options.values import mapped
from pipeline.contract.config import (
    Dtype,
    EngineConfig,
    EngineSettings,
    Named,
    RunConfig,
    RunSettings,
)
from pipeline.contract.config import Settings as _Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Destination = Literal["engine", "run", "task"]


class ModelOptions(_Settings):
    """Which model a job runs, and in which precision."""

    model: Named = Field(
        description=(
            "A Gemma 3: a folder, on the hub (OWNER/NAME, OWNER/NAME@REVISION), s3:// or gs://, a "
            "GGUF file, or 'demo' for the bundled one."
        )
    )
    dtype: Dtype | None = Field(
        None, description="Number format to compute in; by default what suits the model."
    )


class JobOptions(RunSettings, EngineSettings, ModelOptions):
    """The options of every job."""

    @field_validator("*")
    @classmethod
    def _is_not_empty(cls, value: object) -> object:
        """Refuse empty text: it is most likely a shell variable that was not set."""
        if isinstance(value, str) and not value.strip():
            raise ValueError("is empty; give it a value, or leave it out")
        return value

    @field_validator("engine_args", mode="before")
    @classmethod
    def _may_be_text(cls, value: object) -> object:
        return mapped(value)

    @field_validator("storage_options", mode="before")
    @classmethod
    def _are_by_protocol(cls, value: object) -> object:
        options = mapped(value)
        if not isinstance(options, Mapping) or not all(
            isinstance(own, Mapping) for own in options.values()
        ):
            raise ValueError(
                'should be arguments by protocol: {"s3": {"endpoint_url": "https://..."}}'
            )
        return options


def ordered_fields(options: type[JobOptions]) -> dict[str, FieldInfo]:
    """A job's options in the order they are shown: the model, the job's own, those of every job."""
    fields = options.model_fields
    return {"model": fields["model"], **own_fields(options), **fields}


def own_fields(options: type[JobOptions]) -> dict[str, FieldInfo]:
    """The options that only this job has, or that it declares again."""
    fields = options.model_fields.items()
    return {name: field for name, field in fields if name not in JobOptions.model_fields}


def default_text(field: FieldInfo) -> str:
    """An option's default as a user writes it; empty where it has none, or an empty one."""
    default = field.get_default(call_default_factory=True)
    if field.is_required() or default is None:
        return ""
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, Mapping):
        return json.dumps(default) if default else ""
    if isinstance(default, list | tuple | Set):
        return ",".join(str(getattr(item, "value", item)) for item in default)
    return str(getattr(default, "value", default))  # of an enumeration, say


def destination(option: str) -> Destination:
    """Where an option goes: to the field of that name in the engine's or the run's configuration.

    Any other option goes to the task.
    """
    if option in EngineConfig.model_fields:
        return "engine"
    return "run" if option in RunConfig.model_fields else "task"
