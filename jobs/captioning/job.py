"""`caption`: its options, and how the task is built from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, ModelWrapValidatorHandler, PositiveInt, model_validator

from jobs.captioning.json_schema import read_schema
from jobs.captioning.prompt import columns_in
from jobs.captioning.question_file import KINDS_OF_PROMPT, read_questions
from jobs.captioning.questions import Question, QuestionsTask
from jobs.captioning.styles import ALT_WORDS, STYLES, Style, find_style, of_videos, schema_text
from jobs.captioning.task import CaptionTask
from jobs.options.check import check_options
from jobs.options.common import JobOptions
from jobs.options.job import Job
from jobs.options.languages import language_option
from jobs.options.writing import (
    Clean,
    FrequencyPenalty,
    PresencePenalty,
    Quality,
    RepetitionPenalty,
    Stop,
)
from pipeline import UserError
from pipeline.contract.config import PanAndScan
from pipeline.contract.record import OF_A_RUN

if TYPE_CHECKING:
    from jobs.options.model import Model

DEFAULT_STYLE = "sentence"
DEFAULT_IMAGES = 8
FPS_IMAGES = 24
"""With labels and the usual answers they fit into the default of `max_model_len`."""
DEFAULT_VIDEO_COLUMN = "video"
SCHEMA_TOKENS = 512
"""Longest answer with a user's own schema, in tokens, unless `max_tokens` is set."""
AS_THEY_ARE = (
    "image_column",
    "system",
    "n",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "clean",
    "quality",
)
"""Options that are fields of the task."""


class CaptionOptions(JobOptions):
    """The options of `caption`."""

    image_column: str = Field("image", description="Column with the images, or lists of them.")
    output_column: str | None = Field(
        None, description="What the column with the caption is called, in place of 'caption'."
    )
    video_column: str | None = Field(
        None, description="Column with videos, instead of images; with frames or fps 'video'."
    )
    frames: PositiveInt | None = Field(
        None, description="Frames of each video, evenly spaced in time; by default 8."
    )
    fps: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Frames a second of each video, but at most max_images, evenly spaced.",
    )
    style: str | None = Field(
        None,
        description="alt, sentence (the default), dense, tags or ocr.",
        json_schema_extra={"values": [*STYLES]},
    )
    prompt: str | None = Field(
        None, description="Prompt instead of a style; columns in braces: 'Describe {title}'."
    )
    prompts: str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = Field(
        None,
        description=(
            "YAML or JSON file of several questions, each with a column of its name: {caption} in "
            "one is the answer to another."
        ),
    )
    json_schema: str | Mapping[str, Any] | None = Field(
        None, description="JSON schema that captions must match, or a file with one."
    )
    system: str | None = Field(None, description="System prompt: text before the prompt.")
    language: str | None = Field(None, description="Language code of the captions: fr, pt-BR.")
    max_words: PositiveInt | None = Field(
        None, description="Ask for at most so many words; longer captions are kept."
    )
    max_images: PositiveInt = Field(
        DEFAULT_IMAGES,
        description=(
            f"Most images for one row; by default frames if that is more; with fps {FPS_IMAGES}."
        ),
    )
    pan_and_scan: PanAndScan = False
    max_tokens: PositiveInt | None = Field(
        None, description="Longest caption, in tokens; by default what suits the style."
    )
    temperature: float = Field(0.0, ge=0, le=2, description="0 always picks the likeliest token.")
    top_p: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Nucleus sampling: probability mass of the tokens to draw from.",
    )
    top_k: int = Field(0, ge=0, description="Draw from this many likeliest tokens; 0 means all.")
    seed: int = Field(0, description="Random seed; another one draws other captions.")
    n: PositiveInt = Field(1, le=64, description="Captions to draw for each row.")
    stop: Stop = ()
    presence_penalty: PresencePenalty = 0.0
    frequency_penalty: FrequencyPenalty = 0.0
    repetition_penalty: RepetitionPenalty = 1.0
    clean: Clean = False
    quality: Quality = False

    @model_validator(mode="wrap")
    @classmethod
    def _takes_the_frames(cls, values: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        """Unless `max_images` is given, a request takes the frames that are asked for."""
        if not isinstance(values, dict) or values.get("max_images") is not None:
            return read(values)
        given = {name: value for name, value in values.items() if name != "max_images"}
        options = read(given)  # by now frames are a number, also where they were text
        frames = FPS_IMAGES if options.fps else options.frames or 0
        return options if frames <= DEFAULT_IMAGES else read({**given, "max_images": frames})

    @property
    def is_of_videos(self) -> bool:
        """Whether videos are captioned, not images."""
        return any(given is not None for given in (self.video_column, self.frames, self.fps))


def build_task(options: CaptionOptions, model: Model) -> CaptionTask | QuestionsTask:
    """Build the task: of one prompt, or of several.

    Raises:
        UserError: See `caption_task` and `questions_task`.
    """
    build = caption_task if options.prompts is None else questions_task
    return build(options, model)


def restored_task(**settings: Any) -> CaptionTask | QuestionsTask:
    """The task of the `settings` in a run's record."""
    return QuestionsTask(**settings) if "questions" in settings else CaptionTask(**settings)


def questions_task(options: CaptionOptions, model: Model) -> QuestionsTask:
    """Build the task of several prompts. What else is set holds for each that does not set it.

    Raises:
        UserError: A prompt is wrong, which the message names; or options contradict each other.
    """
    assert options.prompts is not None
    for name in KINDS_OF_PROMPT:
        if name in options.model_fields_set:
            raise UserError(f"{name}: prompts has what is asked; set it there, or leave one out")
    if options.output_column is not None:
        raise UserError("output_column: each of several prompts has its name; leave it out")
    if options.n > 1:
        raise UserError("n: of each of several prompts one answer is drawn; leave it out")
    shared = {name: getattr(options, name) for name in options.model_fields_set - {"prompts"}}
    questions = []
    for entry in read_questions(options.prompts):
        own = {**entry.values}
        name, image = own.pop("name"), own.pop("image")
        with entry.checking():
            task = caption_task(check_options(CaptionOptions, {**shared, **own}), model)
        questions.append(Question(name=name, image=image, task=task))
    return QuestionsTask(questions=tuple(questions), image_column=options.image_column)


def caption_task(options: CaptionOptions, model: Model) -> CaptionTask:
    """Build the task of one prompt.

    Raises:
        UserError: Options contradict each other, or name a style, language or file that does not
            exist.
    """
    if options.prompt is not None and options.style is not None:
        raise UserError("prompt: replaces the style; give one of the two")
    style = find_style(options.style or DEFAULT_STYLE)
    schema, max_tokens = style.schema, style.max_tokens
    if options.json_schema is not None:
        if options.style is not None:
            raise UserError("json_schema: a style sets its own form; give one of the two")
        schema, max_tokens = read_schema(options.json_schema), SCHEMA_TOKENS
    is_raw = options.prompt_format == "raw"  # never by default
    task = CaptionTask(
        prompt=_opening(options, style) if is_raw else _prompt(options, model),
        max_tokens=options.max_tokens or max_tokens,
        json_schema=schema_text(schema),
        stop=_stop(options, style.stop if is_raw and schema is None else None),
        output_column=_column(options.output_column),
        **{name: getattr(options, name) for name in AS_THEY_ARE},
    )
    _check(options, task)
    return _of_videos(options, task) if options.is_of_videos else task


def _of_videos(options: CaptionOptions, task: CaptionTask) -> CaptionTask:
    """The task, for videos. Raises UserError."""
    if "image_column" in options.model_fields_set:
        raise UserError("video_column: captions are of images or of videos; leave image_column out")
    if options.frames is not None and options.fps is not None:
        raise UserError(
            "fps: sets how many frames a video gives, up to max_images; leave frames out"
        )
    column = options.video_column or DEFAULT_VIDEO_COLUMN
    _check_not_in_prompt(column, "videos", task)
    default = options.max_images if options.fps else min(DEFAULT_IMAGES, options.max_images)
    return replace(task, video_column=column, frames=options.frames or default, fps=options.fps)


def _column(name: str | None) -> str | None:
    """The caption's column as the task takes it.

    Raises:
        UserError: The run itself has a column of that name.
    """
    if name in OF_A_RUN:
        raise UserError(f"output_column: '{name}' is what a run adds itself; choose another name")
    return None if name == "caption" else name


def _stop(options: CaptionOptions, own: str | None) -> str | tuple[str, ...] | None:
    """What ends a caption: its style's text, and the user's."""
    if not options.stop:
        return own
    return options.stop if own is None else (own, *options.stop)


def _prompt(options: CaptionOptions, model: Model) -> str:
    words = options.max_words
    if options.prompt is not None:
        prompt = options.prompt
    elif options.style is None and model.caption_prompt is not None:
        prompt = model.caption_prompt
    else:
        prompt = find_style(options.style or DEFAULT_STYLE).prompt
        prompt = of_videos(prompt) if options.is_of_videos else prompt
        if words is not None and ALT_WORDS in prompt:
            prompt, words = prompt.replace(ALT_WORDS, f"at most {words} words"), None
    if options.language is not None:
        prompt = f"{prompt} Answer in {language_option('language', options.language).name}."
    return prompt if words is None else f"{prompt} Use at most {words} words."


def _opening(options: CaptionOptions, style: Style) -> str:
    """Raw text that the caption continues."""
    if options.max_words is not None:
        raise UserError("max_words: is not added to raw text; give max_tokens")
    if options.prompt is None:
        language = options.language and language_option("language", options.language).name
        opening = of_videos(style.opening) if options.is_of_videos else style.opening
        return opening.format(language=f" in {language}" if language else "")
    if options.language is not None:
        raise UserError("language: is not added to a raw prompt; write it into the prompt")
    return options.prompt


def _check(options: CaptionOptions, task: CaptionTask) -> None:
    if not options.is_of_videos:
        _check_not_in_prompt(options.image_column, "images", task)
    if options.n > 1 and options.temperature == 0:
        raise UserError(
            "n: several captions need a temperature above 0; at 0 all of them are the same"
        )
    if options.max_words is not None and (task.json_schema is not None or task.transcribes):
        raise UserError("max_words: is for captions in words of the model's own; leave it out")


def _check_not_in_prompt(column: str, what: str, task: CaptionTask) -> None:
    if column in columns_in(task.prompt):
        raise UserError(f"prompt: '{column}' holds {what}; they precede the prompt, leave it out")


JOB = Job(
    name="caption",
    help="Caption every image or video of a dataset.",
    columns=(
        "`caption` (text; with `style=tags` a list of strings; with `json_schema` what it says), "
        "called as `output_column` says, and, where `n` is more than 1, `captions` with all of "
        "them; with `prompts` for each its answer under its name, and its outcome: `tags`, "
        "`tags_outcome`"
    ),
    options=CaptionOptions,
    build=build_task,
    restore=restored_task,
)
