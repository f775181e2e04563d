"""From a job's options to its task and the configuration of its run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jobs.options.check import check_options
from jobs.options.job import check_task
from jobs.registry import find_model
from pipeline import EngineConfig, RunConfig
from pipeline.contract.adapted import adapted
from pipeline.engine.models.fetched import fetched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.options.common import JobOptions
    from jobs.options.job import Job
    from jobs.options.model import Model
    from pipeline import Task


@dataclass(frozen=True, kw_only=True)
class ConfiguredJob:
    """A job with its options, which have been checked."""

    job: Job[Any]
    options: JobOptions

    @cached_property
    def model(self) -> Model:
        """The model, without its weights where it has to be fetched.

        Looked up once, so that all that is asked of it is asked of one commit.

        Raises:
            UserError: It cannot be had.
        """
        wanted, storage = self.options.model, self.options.storage_options
        return find_model(fetched(wanted, storage, weights=False))

    def task(self) -> Task:
        """Build the task.

        Raises:
            UserError: Options contradict each other or name something that does not exist, or
                what is built is not a task.
        """
        task = self.job.build(self.options, self.model)
        check_task(task)
        return adapted(task, self.options.lora_column)

    def engine(self) -> EngineConfig:
        """The engine's configuration; the model decides the dtype unless the user does.

        Raises:
            ValidationError: A value is wrong.
        """
        model = self.model
        own = {
            name: getattr(self.options, name)
            for name in EngineConfig.model_fields
            if hasattr(self.options, name)
        }
        own |= {"model": model.path, "dtype": self.options.dtype or model.dtype}
        return EngineConfig(**own)

    def run_config(self, input: str, output: str) -> RunConfig:  # noqa: A002
        """The run's configuration.

        Raises:
            ValidationError: A value is wrong.
        """
        own: dict[str, Any] = {
            name: getattr(self.options, name)
            for name in RunConfig.model_fields
            if hasattr(self.options, name)
        }
        return RunConfig(input=input, output=output, engine=self.engine(), **own)


def configure(job: Job[Any], settings: Mapping[str, Any]) -> ConfiguredJob:
    """Check the options for a job.

    Args:
        job: The job.
        settings: Options by name.

    Raises:
        OptionError: For the first option that is unknown, missing or wrong.
    """
    return ConfiguredJob(job=job, options=check_options(job.options, settings))
