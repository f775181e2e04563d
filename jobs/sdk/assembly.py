"""From a job's options to what runs it: the task, and the configuration of the run.

Decides which precision a model runs in unless the user says otherwise; all else is passed on to
where `options.common.destination` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.job import check_task
from jobs.options.check import check_options
from jobs.registry import find_model
from pipeline import EngineConfig, RunConfig
from pipeline.contract.config import RunSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.job import Job
    from jobs.options.common import JobOptions
    from pipeline import Task


@dataclass(frozen=True, kw_only=True)
class ConfiguredJob:
    """A job with its options, which are checked."""

    job: Job[Any]
    options: JobOptions

    def task(self) -> Task:
        """What is done with a row.

        Raises:
            UserError: Options exclude each other, or what is made of them is no task.
        """
        task = self.job.build(self.options, find_model(self.options.model))
        check_task(task)
        return task

    def engine(self) -> EngineConfig:
        """The engine that the job asks for. Raises ValidationError for a wrong value."""
        model = find_model(self.options.model)
        own = {
            name: getattr(self.options, name)
            for name in EngineConfig.model_fields
            if hasattr(self.options, name)
        }
        own |= {"model": model.path, "dtype": self.options.dtype or model.dtype}
        return EngineConfig(**own)

    def run_config(self, input: str, output: str) -> RunConfig:  # noqa: A002
        """The configuration of a run. Raises ValidationError for a wrong value."""
        own: dict[str, Any] = {
            name: getattr(self.options, name) for name in RunSettings.model_fields
        }
        return RunConfig(input=input, output=output, engine=self.engine(), **own)


def configure(job: Job[Any], settings: Mapping[str, Any]) -> ConfiguredJob:
    """A job with these options. Raises OptionError for the first that is wrong."""
    return ConfiguredJob(job=job, options=check_options(job.options, settings))
