"""The caption task: from a row to a request, and from the answer to the result columns."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.answers.check import fault_of
from jobs.answers.clean import cleaned
from jobs.captioning.json_schema import arrow_type, conform
from jobs.captioning.prompt import columns_in, fill_columns
from jobs.captioning.styles import STYLES, of_videos
from jobs.options.writing import WRITING, recorded
from pipeline import (
    ColumnKind,
    Generation,
    ImageRef,
    Outcome,
    Prepared,
    Request,
    Result,
    RowError,
    Sampling,
    VideoRef,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.contract.task import Row


@dataclass(frozen=True, kw_only=True)
class CaptionTask:
    """A caption for each row's image, images or video.

    Attributes:
        prompt: The prompt; columns in braces (`Describe {title}`) are filled in.
        image_column: Column with the row's image, or a list of images.
        max_tokens: Longest caption, in tokens. A longer text is cut off, with the outcome
            `truncated`; a longer JSON gives no caption, with the outcome `too_long`.
        system: Text before the user's turn.
        json_schema: JSON schema of the caption, as JSON text; None for text.
        video_column: Column with the row's video, in place of images.
        frames: Most frames of a video that are shown.
        fps: Frames a second that are shown, up to `frames`; None for `frames`, however long it is.
        stop: Text or texts that end a caption.
        n: Captions to draw; more than one adds the column `captions`, or as the
            caption's is called, with an s.
        temperature: See `Sampling`.
        top_p: See `Sampling`.
        top_k: See `Sampling`.
        seed: See `Sampling`.
        output_column: What the column with the caption is called; None for `caption`.
        presence_penalty: See `Sampling`.
        frequency_penalty: See `Sampling`.
        repetition_penalty: See `Sampling`.
        clean: Whether what is around a caption in text is cut; adds the column `caption_raw`.
        quality: Whether to add the column `caption_quality`.
    """

    prompt: str
    image_column: str = "image"
    max_tokens: int = 128
    system: str | None = None
    json_schema: str | None = None
    stop: str | tuple[str, ...] | None = None
    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    clean: bool = False
    quality: bool = False
    output_column: str | None = None
    video_column: str | None = None
    frames: int | None = None
    fps: float | None = None

    name = "caption"
    renaming_option = "output_column"

    def __post_init__(self) -> None:
        if isinstance(self.stop, list):  # as in a run's record
            object.__setattr__(self, "stop", tuple(self.stop))

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """The column of images or of videos, and the columns in the prompt."""
        named = dict.fromkeys(columns_in(self.prompt), ColumnKind.VALUE)
        if self.video_column is not None:
            return {self.video_column: ColumnKind.VIDEO, **named}
        return {self.image_column: ColumnKind.IMAGES, **named}

    @property
    def most_frames(self) -> int:
        """See `pipeline.contract.task.ShowsVideos`."""
        return 0 if self.video_column is None else self.frames or 1

    @property
    def result_schema(self) -> pa.Schema:
        """`caption`, of the schema's type, and `captions` where `n` is more than 1."""
        caption, *others = self.fields(self._column)
        several = [pa.field(f"{self._column}s", pa.list_(self._type))] if self.n > 1 else []
        return pa.schema([caption, *several, *others])

    @property
    def _column(self) -> str:
        """The name of the column with the caption."""
        return self.output_column or "caption"

    def fields(self, name: str) -> list[pa.Field]:
        """The columns of one answer, of which the first has that name."""
        return [
            pa.field(name, self._type),
            *([pa.field(f"{name}_raw", pa.string())] if self._cleans else []),
            *([pa.field(f"{name}_quality", pa.float64())] if self.quality else []),
        ]

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that decides the captions: the task's own fields."""
        return recorded(self, {*WRITING} - {"stop"})

    @property
    def sampling(self) -> Sampling:
        """How captions are drawn."""
        stop = () if self.stop is None else self.stop
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            n=self.n,
            json_schema=self.json_schema,
            ends_loops=not self.transcribes,
            stop=(stop,) if isinstance(stop, str) else stop,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            mean_log_probability=self.quality,
        )

    @functools.cached_property
    def _type(self) -> pa.DataType:
        """The type of one caption. Cached: it is asked for with every row."""
        return pa.string() if self.json_schema is None else arrow_type(json.loads(self.json_schema))

    @property
    def transcribes(self) -> bool:
        """Whether captions are what is written in the image, which may repeat itself or refuse.

        By the prompt, so that it holds for a task that is restored from a run's record too.
        """
        ocr = STYLES["ocr"]
        openings = (ocr.prompt, ocr.opening.partition("{")[0])
        return self.prompt.startswith((*openings, *map(of_videos, openings)))

    @property
    def _cleans(self) -> bool:
        """Whether there may be anything around a caption: not where its form is kept to."""
        return self.clean and self.json_schema is None and not self.transcribes

    def prepare(self, row: Row) -> Prepared:
        """One request: the images or the video, then the prompt.

        Raises:
            RowError: The list of images is empty.
        """
        return Prepared((self.request(fill_columns(self.prompt, row), row),))

    def request(self, prompt: str, row: Row) -> Request:
        """A request with a prompt that is filled in, and the row's images or video.

        Raises:
            RowError: The list of images is empty.
        """
        images = self._images(row)
        return Request(prompt, self.sampling, images=images, system=self.system)

    def _images(self, row: Row) -> tuple[ImageRef | VideoRef, ...]:
        if self.video_column is not None:
            return (VideoRef(row[self.video_column], self.most_frames, self.fps),)
        values = row[self.image_column]
        if not isinstance(values, list):
            values = [values]
        if not values:
            raise RowError(Outcome.MISSING_INPUT, "render", "the list of images is empty")
        return tuple(ImageRef(value) for value in values)

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        """The captions: parsed where there is a schema, else stripped of white space.

        Raises:
            RowError: See `answer`.
            ValueError: See `answer`.
        """
        (answer,) = generations
        result = self.answer(self._column, answer)
        if self.n == 1:
            return result
        others = [self._parse_or_null(text) for text in answer.others]
        captions = [result.columns[self._column], *others]
        columns = {**result.columns, f"{self._column}s": captions}
        return Result(columns, result.outcome)

    def answer(self, name: str, answer: Generation) -> Result:
        """The columns of one answer; see `fields`.

        Raises:
            RowError: The JSON was longer than `max_tokens`, or the answer is empty, a loop or a
                refusal.
            ValueError: The answer is not JSON of the schema's type although there is one.
        """
        is_loop = answer.finish_reason == "repetition"
        if is_loop and self.json_schema is not None:
            self._check(answer.text, ended_as_loop=True)
        is_truncated = answer.finish_reason == "length"
        if self.json_schema is not None and is_truncated:
            message = f"the JSON was longer than {self.max_tokens} tokens; raise --max-tokens"
            raise RowError(Outcome.TOO_LONG, "parse", message)
        caption = self._parse(answer.text)
        self._check(caption, ended_as_loop=is_loop)
        columns = {name: caption}
        if self._cleans:
            raw = answer.text.strip()
            columns[f"{name}_raw"] = None if raw == caption else raw
        if self.quality:
            columns[f"{name}_quality"] = answer.mean_log_probability
        return Result(columns, Outcome.TRUNCATED if is_truncated else Outcome.OK)

    def _parse(self, text: str) -> Any:
        if self.json_schema is not None:
            return conform(json.loads(text), self._type)
        return cleaned(text) if self._cleans else text.strip()

    def _parse_or_null(self, text: str) -> Any:
        """A further caption; null where it is none, or its JSON is cut off."""
        try:
            caption = self._parse(text)
            self._check(caption)
        except (ValueError, RowError):
            return None
        return caption

    def _check(self, caption: object, *, ended_as_loop: bool = False) -> None:
        """Raises RowError for a text that is empty, a loop or a refusal, and does not quote."""
        if isinstance(caption, str) and not self.transcribes:
            fault = fault_of(caption, ended_as_loop=ended_as_loop)
            if fault is not None:
                raise fault
