"""`translate`: its options, and how the task is built from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt, field_validator

from jobs.options.common import JobOptions
from jobs.options.job import Job
from jobs.options.languages import language_option
from jobs.options.values import Names
from jobs.options.writing import (
    WRITING,
    Clean,
    FrequencyPenalty,
    PresencePenalty,
    Quality,
    RepetitionPenalty,
    Stop,
)
from jobs.translation.examples import Examples, read_examples
from jobs.translation.glossary import read_glossary
from jobs.translation.in_order import TranslationInOrder
from jobs.translation.task import AUTO, TranslationTask
from pipeline import UserError
from pipeline.contract.config import PanAndScan
from pipeline.engine.backends import profile_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.options.model import Model
    from pipeline.engine.profile import ModelProfile


class TranslateOptions(JobOptions):
    """The options of `translate`."""

    to: Names = Field(description="Codes of the languages to translate to: de,fr.")
    text_columns: Names = Field(("text",), description="Columns with the texts: title,body.")
    image_column: str | None = Field(
        None, description="Column with images whose text is translated, instead of texts."
    )
    source: str = Field("auto", description="Code of the texts' language; auto detects it.")
    source_column: str | None = Field(
        None, description="Column with the code of each row's language."
    )
    glossary: str | None = Field(None, description="CSV file of terms; its header has the codes.")
    examples: str | None = Field(
        None, description="CSV file of translations to follow; its header has the codes."
    )
    instructions: str | None = Field(
        None, description="What to heed in every translation: 'formal German, keep product names'."
    )
    context_column: str | None = Field(
        None, description="Column with what a row's texts are about, which is not translated."
    )
    consistent: bool = Field(
        False,
        description=(
            "Translate the chunks of a document one after the other, each shown how the one before "
            "was translated."
        ),
    )
    chunk_tokens: PositiveInt = Field(512, description="Longest chunk of a text, in tokens.")
    context_tokens: int = Field(64, ge=0, description="Text shown before a chunk, in tokens.")
    max_tokens: PositiveInt | None = Field(
        None, description="Longest answer for a chunk, in tokens; by default three times the chunk."
    )
    check_language: bool = Field(True, description="Check that answers are in the target language.")
    pan_and_scan: PanAndScan = False
    stop: Stop = ()
    presence_penalty: PresencePenalty = 0.0
    frequency_penalty: FrequencyPenalty = 0.0
    repetition_penalty: RepetitionPenalty = 1.0
    clean: Clean = False
    quality: Quality = False

    @field_validator("to")
    @classmethod
    def _has_one(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("has no language; name at least one: de,fr")
        return value


def translation_task(options: TranslateOptions, model: Model) -> TranslationTask:
    """Build the task.

    Raises:
        UserError: Options contradict each other, a language is unknown, or the glossary, the
            examples or the model cannot be read.
    """
    if options.source_column is not None and options.source != AUTO:
        raise UserError("source_column: has each row's language; leave source out")
    if options.image_column is not None and "text_columns" in options.model_fields_set:
        raise UserError("text_columns: a job translates texts or images; leave image_column out")
    profile = profile_of(model.path, options.prompt_format, endpoint=options.endpoint)
    _check_notes(options, profile)
    source = AUTO if options.source == AUTO else _code("source", options.source, profile)
    targets = tuple(_code("to", code, profile) for code in options.to)
    kind = TranslationInOrder if options.consistent else TranslationTask
    return kind(
        targets=targets,
        text_columns=() if options.image_column is not None else options.text_columns,
        image_column=options.image_column,
        source=source,
        source_column=options.source_column,
        asks_languages=profile.asks_languages,
        continues_text=profile.continues_text,
        examples=_examples(options, profile, None if source == AUTO else source, targets),
        glossary=(
            read_glossary(options.glossary, None if source == AUTO else source, targets)
            if options.glossary
            else None
        ),
        chunk_tokens=options.chunk_tokens,
        context_tokens=options.context_tokens,
        max_tokens=options.max_tokens,
        check_language=options.check_language,
        instructions=options.instructions,
        context_column=options.context_column,
        consistent=options.consistent,
        **{name: getattr(options, name) for name in WRITING},
    )


def restored_task(**settings: Any) -> TranslationTask:
    """The task of the `settings` in a run's record."""
    kind = TranslationInOrder if settings.get("consistent") else TranslationTask
    return kind(**settings)


def _check_notes(options: TranslateOptions, profile: ModelProfile) -> None:
    """Refuse what the prompt has no place for, or a base model does not heed."""
    if options.glossary is not None and options.image_column is not None:
        raise UserError("glossary: its terms are looked for in texts; leave image_column out")
    if options.consistent and options.image_column is not None:
        raise UserError("consistent: is for texts in chunks; leave image_column out")
    if options.consistent and options.context_tokens == 0:
        raise UserError(
            "consistent: shows what was translated before, and context_tokens 0 leaves no room for "
            "it; give context_tokens"
        )
    for name in ("instructions", "context_column", "consistent"):
        if not getattr(options, name):
            continue
        if profile.asks_languages:
            raise UserError(
                f"{name}: this model's chat template writes the whole prompt; leave it out, or "
                "give prompt_format gemma"
            )
        if profile.continues_text:
            raise UserError(f"{name}: a base model heeds none; give examples instead")


def _examples(
    options: TranslateOptions, profile: ModelProfile, source: str | None, targets: Sequence[str]
) -> Examples | None:
    if options.examples is None:
        return None
    if options.image_column is not None:
        raise UserError("examples: are of texts; leave image_column out")
    if profile.asks_languages:
        raise UserError(
            "examples: this model's chat template writes the whole prompt; leave them out, or give "
            "prompt_format gemma"
        )
    return read_examples(options.examples, source, targets)


def _code(option: str, code: str, profile: ModelProfile) -> str:
    """The code in its usual form; a template that takes codes must know it."""
    language = language_option(option, code)
    if profile.asks_languages and not profile.knows_language(language.code):
        raise UserError(f"{option}: '{code}': the model's own template does not know this language")
    return language.code


JOB = Job(
    name="translate",
    help="Translate every text of a dataset, or the text in its images.",
    columns=(
        "for each text column and each language of `to`: `text_de`, `text_de_outcome` and "
        "`text_de_lost` (placeholders, links, numbers and so on that the translation lost); with "
        "`source=auto` also `text_language` and `text_language_confidence` (0 to 1). Texts that "
        "are already in the target language are copied"
    ),
    options=TranslateOptions,
    build=translation_task,
    restore=restored_task,
)
