"""From a job's options to what runs it: the task, and the configuration of the run.

Decides every default that hangs on the model (its prompts, its policies, what its template can do),
and which options exclude each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.caption_styles import find_style, schema_text
from jobs.captions import CaptionTask
from jobs.json_schema import read_schema
from jobs.models import find_model
from jobs.options import CaptionOptions
from jobs.prompts import columns_in
from pipeline import EngineConfig, RunConfig, UserError

if TYPE_CHECKING:
    from jobs.models import Model
    from jobs.options import JobOptions
    from pipeline import Task

DEFAULT_STYLE = "sentence"
SCHEMA_TOKENS = 512
"""Longest answer to a user's own schema, unless they say otherwise."""
OF_ENGINE = ("max_model_len", "max_num_seqs", "tensor_parallel_size", "engine_args")
OF_RUN = (
    "engine_replicas",
    "render_workers",
    "unit_rows",
    "keep_images",
    "dedup",
    "max_error_rate",
    "new_version",
    "single_driver",
    "allow_private_addresses",
    "storage_options",
)
"""Options that go through to the engine's and the run's configuration as they are."""
OF_SOME_ENGINES = ("max_images", "pan_and_scan")
"""The same, of those jobs that have them."""
ENGINE_OPTIONS = ("dtype", *OF_ENGINE, *OF_SOME_ENGINES, "engine_replicas")
"""Everything about engines, apart from the model."""


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """What `pipeline.run` takes."""

    config: RunConfig
    task: Task


def assemble(options: JobOptions, input: str, output: str) -> Assembled:  # noqa: A002
    """Make the task and the configuration of a run.

    Raises:
        UserError: Options exclude each other, or name something that there is not.
    """
    model = find_model(options.model)
    return Assembled(
        config=_config(options, model, input, output),
        task=_task(options, model),
    )


def engine_config(options: JobOptions) -> EngineConfig:
    """The engine that a job asks for."""
    return _engine(options, find_model(options.model))


def _engine(options: JobOptions, model: Model) -> EngineConfig:
    own: dict[str, Any] = {name: getattr(options, name) for name in OF_ENGINE}
    for name in OF_SOME_ENGINES:
        if hasattr(options, name):
            own[name] = getattr(options, name)
    return EngineConfig(model=model.path, dtype=options.dtype or model.dtype, **own)


def _config(options: JobOptions, model: Model, source: str, output: str) -> RunConfig:
    own: dict[str, Any] = {name: getattr(options, name) for name in OF_RUN}
    return RunConfig(input=source, output=output, engine=_engine(options, model), **own)


def _task(options: JobOptions, model: Model) -> Task:
    if isinstance(options, CaptionOptions):
        return _caption_task(options, model)
    raise AssertionError(f"no task for {type(options).__name__}")


def _caption_task(options: CaptionOptions, model: Model) -> CaptionTask:
    if options.prompt is not None and options.style is not None:
        raise UserError("prompt: takes the place of a style; give one of the two")
    style = find_style(options.style or DEFAULT_STYLE)
    schema, max_tokens = style.schema, style.max_tokens
    if options.json_schema is not None:
        if options.style is not None:
            raise UserError("json_schema: a style has its own form; give one of the two")
        schema, max_tokens = read_schema(options.json_schema), SCHEMA_TOKENS
    task = CaptionTask(
        prompt=_caption_prompt(options, model),
        image_column=options.image_column,
        max_tokens=options.max_tokens or max_tokens,
        system=options.system,
        json_schema=schema_text(schema),
        n=options.n,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        seed=options.seed,
    )
    _check_caption(options, task)
    return task


def _caption_prompt(options: CaptionOptions, model: Model) -> str:
    if options.prompt is not None:
        prompt = options.prompt
    elif options.style is None and model.caption_prompt is not None:
        prompt = model.caption_prompt
    else:
        prompt = find_style(options.style or DEFAULT_STYLE).prompt
    if options.language is None:
        return prompt
    from jobs.languages import find_language

    return f"{prompt} Answer in {find_language(options.language).name}."


def _check_caption(options: CaptionOptions, task: CaptionTask) -> None:
    if options.image_column in columns_in(task.prompt):
        raise UserError(
            f"prompt: '{options.image_column}' holds pictures; they stand before the prompt anyway"
        )
    if options.n > 1 and options.temperature == 0:
        raise UserError(
            "n: several captions need a temperature above 0; without, all of them are the same"
        )
