"""From a job's options to what runs it: the task, and the configuration of the run.

Decides every default that hangs on the model (its prompts, its policies, what its template can do),
and which options exclude each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jobs.captioning.json_schema import read_schema
from jobs.captioning.prompt import columns_in
from jobs.captioning.styles import find_style, schema_text
from jobs.captioning.task import CaptionTask
from jobs.moderation.policies import set_thresholds
from jobs.moderation.policy_files import read_policies
from jobs.moderation.task import ModerationTask, moderation_task
from jobs.options.job_options import CaptionOptions, ModerateOptions, TranslateOptions
from jobs.options.languages import find_language, template_knows
from jobs.options.model import find_model
from jobs.translation.glossary import read_glossary
from jobs.translation.task import AUTO, TranslationTask
from pipeline import EngineConfig, RunConfig, UserError
from pipeline.engine.checkpoint import open_checkpoint

if TYPE_CHECKING:
    from jobs.options.job_options import JobOptions
    from jobs.options.languages import Language
    from jobs.options.model import Model
    from pipeline import Task

DEFAULT_STYLE = "sentence"
DEFAULT_IMAGE_COLUMN = "image"
TEMPLATE_MARK = "source_lang_code"
"""In a chat template that takes codes of languages, as TranslateGemma's does."""
SCHEMA_TOKENS = 512
"""Longest answer to a user's own schema, unless they say otherwise."""
OF_ENGINE = (
    "max_model_len",
    "max_num_seqs",
    "tensor_parallel_size",
    "stall_seconds",
    "engine_args",
)
OF_RUN = (
    "engine_replicas",
    "render_workers",
    "unit_rows",
    "keep_images",
    "max_image_bytes",
    "max_image_pixels",
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


def assemble_task(options: JobOptions) -> Task:
    """The task alone, where there is no input to name yet. Raises as `assemble`."""
    return _task(options, find_model(options.model))


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
    if isinstance(options, ModerateOptions):
        return _moderation_task(options, model)
    if isinstance(options, TranslateOptions):
        return _translation_task(options, model)
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


def _translation_task(options: TranslateOptions, model: Model) -> TranslationTask:
    if options.source_column is not None and options.source != AUTO:
        raise UserError("source_column: says each row's language; leave source out")
    if options.image_column is not None and "text_columns" in options.model_fields_set:
        raise UserError("text_columns: a job translates texts or images; leave image_column out")
    template = open_checkpoint(model.path).template
    asks_languages = TEMPLATE_MARK in template
    known = template if asks_languages else None
    source = AUTO if options.source == AUTO else _code("source", options.source, known)
    return TranslationTask(
        targets=tuple(_code("to", code, known) for code in options.to),
        text_columns=() if options.image_column is not None else options.text_columns,
        image_column=options.image_column,
        source=source,
        source_column=options.source_column,
        asks_languages=asks_languages,
        glossary=read_glossary(options.glossary) if options.glossary else None,
        chunk_tokens=options.chunk_tokens,
        context_tokens=options.context_tokens,
        max_tokens=options.max_tokens,
        check_language=options.check_language,
    )


def _code(option: str, code: str, template: str | None) -> str:
    """A language's code as we write it, checked, and that a model's own template knows it."""
    language = _language(option, code)
    if template is not None and not template_knows(template, language.code):
        raise UserError(f"{option}: '{code}': the model's own template does not know this language")
    return language.code


def _language(option: str, code: str) -> Language:
    try:
        return find_language(code)
    except UserError as error:
        raise UserError(f"{option}: {error}") from None


def _moderation_task(options: ModerateOptions, model: Model) -> ModerationTask:
    if options.image_column is not None and options.text_column is not None:
        raise UserError("text_column: a job judges images or texts; leave image_column out")
    image_column = None if options.text_column else options.image_column or DEFAULT_IMAGE_COLUMN
    task = moderation_task(
        open_checkpoint(model.path),
        model,
        policies=read_policies(options.policies) if options.policies else None,
        image_column=image_column,
        text_column=options.text_column,
    )
    return replace(task, policies=set_thresholds(task.policies, options.thresholds))


def _caption_prompt(options: CaptionOptions, model: Model) -> str:
    if options.prompt is not None:
        prompt = options.prompt
    elif options.style is None and model.caption_prompt is not None:
        prompt = model.caption_prompt
    else:
        prompt = find_style(options.style or DEFAULT_STYLE).prompt
    if options.language is None:
        return prompt
    return f"{prompt} Answer in {_language('language', options.language).name}."


def _check_caption(options: CaptionOptions, task: CaptionTask) -> None:
    if options.image_column in columns_in(task.prompt):
        raise UserError(
            f"prompt: '{options.image_column}' holds images; they stand before the prompt anyway"
        )
    if options.n > 1 and options.temperature == 0:
        raise UserError(
            "n: several captions need a temperature above 0; without, all of them are the same"
        )
