"""`caption`: its options, and how the task is built from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt, model_validator

from jobs.captioning.json_schema import read_schema
from jobs.captioning.prompt import columns_in
from jobs.captioning.styles import Style, find_style, of_videos, schema_text
from jobs.captioning.task import CaptionTask
from jobs.options.common import JobOptions
from jobs.options.job import Job
from jobs.options.languages import language_option
from pipeline import UserError
from pipeline.contract.config import PanAndScan
from pipeline.contract.record import ADDED

if TYPE_CHECKING:
    from jobs.options.model import Model

DEFAULT_STYLE = "sentence"
OWN_COLUMNS = frozenset({"position", "same_as", *ADDED.names})
"""Columns of a run's parts, and of its journal."""
DEFAULT_IMAGES = 8
FPS_IMAGES = 24
"""With labels and the usual answers they fit into the default of `max_model_len`."""
DEFAULT_VIDEO_COLUMN = "video"
SCHEMA_TOKENS = 512
"""Longest answer with a user's own schema, in tokens, unless `max_tokens` is set."""


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
        description="Frames a second of each video, but at most max_images, evenly spaced.",
    )
    style: str | None = Field(None, description="alt, sentence (the default), dense, tags or ocr.")
    prompt: str | None = Field(
        None, description="Prompt instead of a style; columns in braces: 'Describe {title}'."
    )
    json_schema: str | Mapping[str, Any] | None = Field(
        None, description="JSON schema that captions must match, or a file with one."
    )
    system: str | None = Field(None, description="System prompt: text before the prompt.")
    language: str | None = Field(None, description="Language code of the captions: fr, pt-BR.")
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

    @model_validator(mode="before")
    @classmethod
    def _takes_the_frames(cls, values: Any) -> Any:
        """Unless `max_images` is given, a request takes the frames that are asked for."""
        if not isinstance(values, dict) or values.get("max_images") is not None:
            return values
        frames = FPS_IMAGES if values.get("fps") else values.get("frames")
        if not isinstance(frames, int) or frames <= DEFAULT_IMAGES:
            return values
        return {**values, "max_images": frames}

    @property
    def is_of_videos(self) -> bool:
        """Whether videos are captioned, not images."""
        return any(given is not None for given in (self.video_column, self.frames, self.fps))


def caption_task(options: CaptionOptions, model: Model) -> CaptionTask:
    """Build the task.

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
        image_column=options.image_column,
        max_tokens=options.max_tokens or max_tokens,
        system=options.system,
        json_schema=schema_text(schema),
        stop=style.stop if is_raw and schema is None else None,
        n=options.n,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        seed=options.seed,
        output_column=_column(options.output_column),
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
    if name in OWN_COLUMNS:
        raise UserError(f"output_column: '{name}' is what a run adds itself; choose another name")
    return None if name == "caption" else name


def _prompt(options: CaptionOptions, model: Model) -> str:
    if options.prompt is not None:
        prompt = options.prompt
    elif options.style is None and model.caption_prompt is not None:
        prompt = model.caption_prompt
    else:
        prompt = find_style(options.style or DEFAULT_STYLE).prompt
        prompt = of_videos(prompt) if options.is_of_videos else prompt
    if options.language is None:
        return prompt
    return f"{prompt} Answer in {language_option('language', options.language).name}."


def _opening(options: CaptionOptions, style: Style) -> str:
    """Raw text that the caption continues."""
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


def _check_not_in_prompt(column: str, what: str, task: CaptionTask) -> None:
    if column in columns_in(task.prompt):
        raise UserError(f"prompt: '{column}' holds {what}; they precede the prompt, leave it out")


JOB = Job(
    name="caption",
    help="Caption every image or video of a dataset.",
    columns=(
        "`caption` (text; with `style=tags` a list of strings; with `json_schema` what it says), "
        "called as `output_column` says, and, where `n` is more than 1, `captions` with all of them"
    ),
    options=CaptionOptions,
    build=caption_task,
    restore=CaptionTask,
)
