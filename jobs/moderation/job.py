"""`moderate`: its options, and how the task is built from them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field

from jobs.moderation.policies import set_thresholds
from jobs.moderation.policy_files import read_policies
from jobs.moderation.task import ModerationTask, moderation_task
from jobs.options.common import JobOptions
from jobs.options.job import Job
from jobs.options.values import Numbers
from pipeline import UserError
from pipeline.engine.profile import read_profile

if TYPE_CHECKING:
    from jobs.options.model import Model

DEFAULT_IMAGE_COLUMN = "image"


class ModerateOptions(JobOptions):
    """The options of `moderate`."""

    image_column: str | None = Field(
        None, description="Column with the images; by default 'image'."
    )
    text_column: str | None = Field(None, description="Column with texts, instead of images.")
    policies: str | None = Field(
        None, description="YAML or JSON file of policies; by default ShieldGemma 2's three."
    )
    thresholds: Numbers = Field(
        default_factory=dict, description="Least probabilities that are flagged: violence=0.3,... ."
    )


def build_task(options: ModerateOptions, model: Model) -> ModerationTask:
    """Build the task.

    Raises:
        UserError: Options contradict each other, the policies or the model cannot be read, or the
            model cannot judge texts.
    """
    if options.image_column is not None and options.text_column is not None:
        raise UserError("text_column: a job judges images or texts; leave image_column out")
    image_column = None if options.text_column else options.image_column or DEFAULT_IMAGE_COLUMN
    task = moderation_task(
        read_profile(model.path).prompted(options.prompt_format, model.path),
        model,
        policies=read_policies(options.policies) if options.policies else None,
        image_column=image_column,
        text_column=options.text_column,
    )
    return replace(task, policies=set_thresholds(task.policies, options.thresholds))


JOB = Job(
    name="moderate",
    help="Judge every image or text of a dataset by policies.",
    columns=(
        "`p_<policy>` (probability of a violation, 0 to 1) for each policy, `flagged` (whether any "
        "reaches its threshold) and `labels` (the policies that do)"
    ),
    options=ModerateOptions,
    build=build_task,
    restore=ModerationTask,
)
