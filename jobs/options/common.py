"""The options that every job has, and where a job's options go.

A job's own options are fields of its subclass of `JobOptions`, in the job's package. Options that
go to the engine or to the run are declared in `pipeline.contract.config` and inherited here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from jobs.options.values import mapped
from pipeline.contract.config import Dtype, EngineConfig, EngineSettings, RunConfig, RunSettings
from pipeline.contract.config import Settings as _Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Destination = Literal["engine", "run", "task"]


class ModelOptions(_Settings):
    """Which model a job runs, and in which precision."""

    model: str = Field(
        min_length=1, description="Folder of a Gemma 3 checkpoint, or 'demo' for the bundled one."
    )
    dtype: Dtype | None = Field(None, description="By default what suits the model.")


class JobOptions(RunSettings, EngineSettings, ModelOptions):
    """What every job takes."""

    @field_validator("*")
    @classmethod
    def _is_something(cls, value: object) -> object:
        """An empty text is a variable that was not set, not a wish."""
        if value == "":
            raise ValueError("is empty; give it a value, or leave it out")
        return value

    @field_validator("engine_args", "storage_options", mode="before")
    @classmethod
    def _may_be_text(cls, value: object) -> object:
        return mapped(value)


def ordered_fields(options: type[JobOptions]) -> dict[str, FieldInfo]:
    """The options of a job as they are shown: the model, the job's own, those of every job."""
    fields = options.model_fields
    own = {name: field for name, field in fields.items() if name not in JobOptions.model_fields}
    return {"model": fields["model"], **own, **fields}


def destination(option: str) -> Destination:
    """Where an option goes: by its name to a field of the engine's or the run's configuration.

    All others are the task's.
    """
    if option in EngineConfig.model_fields:
        return "engine"
    return "run" if option in RunConfig.model_fields else "task"
