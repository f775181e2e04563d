"""`translate`: what a user may set, and the task that is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt, field_validator

from jobs.job import Job
from jobs.options.common import JobOptions
from jobs.options.languages import language_option
from jobs.options.values import Names
from jobs.translation.glossary import read_glossary
from jobs.translation.task import AUTO, TranslationTask
from pipeline import UserError
from pipeline.contract.config import PanAndScan
from pipeline.engine.checkpoint import open_checkpoint

if TYPE_CHECKING:
    from jobs.options.model import Model
    from pipeline.engine.profile import ModelProfile


class TranslateOptions(JobOptions):
    """What `translate` takes."""

    to: Names = Field(description="Codes of the languages to translate to: de,fr.")
    text_columns: Names = Field(("text",), description="Columns with the texts: title,body.")
    image_column: str | None = Field(
        None, description="Column with images whose text is translated, instead of texts."
    )
    source: str = Field("auto", description="Code of the texts' language; auto detects it.")
    source_column: str | None = Field(
        None, description="Column that holds the code of each row's language."
    )
    glossary: str | None = Field(None, description="CSV file of terms; its header has the codes.")
    chunk_tokens: PositiveInt = Field(512, description="Longest piece translated at once.")
    context_tokens: int = Field(64, ge=0, description="Text shown before a piece, in tokens.")
    max_tokens: PositiveInt | None = Field(
        None, description="Longest answer for a piece, in tokens; by default thrice the piece."
    )
    check_language: bool = Field(True, description="Check that answers are in their language.")
    pan_and_scan: PanAndScan = False

    @field_validator("to")
    @classmethod
    def _has_one(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("has no language; name at least one: de,fr")
        return value


def translation_task(options: TranslateOptions, model: Model) -> TranslationTask:
    """The task. Raises UserError where options exclude each other or a language is not known."""
    if options.source_column is not None and options.source != AUTO:
        raise UserError("source_column: says each row's language; leave source out")
    if options.image_column is not None and "text_columns" in options.model_fields_set:
        raise UserError("text_columns: a job translates texts or images; leave image_column out")
    profile = open_checkpoint(model.path).profile
    source = AUTO if options.source == AUTO else _code("source", options.source, profile)
    return TranslationTask(
        targets=tuple(_code("to", code, profile) for code in options.to),
        text_columns=() if options.image_column is not None else options.text_columns,
        image_column=options.image_column,
        source=source,
        source_column=options.source_column,
        asks_languages=profile.asks_languages,
        glossary=read_glossary(options.glossary) if options.glossary else None,
        chunk_tokens=options.chunk_tokens,
        context_tokens=options.context_tokens,
        max_tokens=options.max_tokens,
        check_language=options.check_language,
    )


def _code(option: str, code: str, profile: ModelProfile) -> str:
    """A language's code as we write it, which the model's own template must know if it asks."""
    language = language_option(option, code)
    if profile.asks_languages and not profile.knows_language(language.code):
        raise UserError(f"{option}: '{code}': the model's own template does not know this language")
    return language.code


JOB = Job(
    name="translate",
    help="Translate every text of a dataset, or the text in its images.",
    columns=(
        "for each text column and each language of `to`: `text_de`, `text_de_outcome` and "
        "`text_de_lost` (placeholders, links, numbers and so on that did not survive; empty where "
        "all did); with `source=auto` also `text_language` and `text_language_confidence` (0 to "
        "1). Texts in the target language already are passed through"
    ),
    options=TranslateOptions,
    build=translation_task,
    restore=TranslationTask,
)
