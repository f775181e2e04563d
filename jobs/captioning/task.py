"""The caption task: from a row to a request, and from the answer to the result columns."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.answers.check import fault_of
from jobs.captioning.json_schema import arrow_type, conform
from jobs.captioning.prompt import columns_in, fill_columns
from jobs.captioning.styles import STYLES, of_videos
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
        stop: Text that ends a caption, where the prompt is raw text that is continued.
        n: Captions to draw; more than one adds the column `captions`, or as the
            caption's is called, with an s.
        temperature: See `Sampling`.
        top_p: See `Sampling`.
        top_k: See `Sampling`.
        seed: See `Sampling`.
        output_column: What the column with the caption is called; None for `caption`.
    """

    prompt: str
    image_column: str = "image"
    max_tokens: int = 128
    system: str | None = None
    json_schema: str | None = None
    stop: str | None = None
    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    output_column: str | None = None
    video_column: str | None = None
    frames: int | None = None
    fps: float | None = None

    name = "caption"
    renaming_option = "output_column"

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
        caption, captions = self._names
        fields = [pa.field(caption, self._type), pa.field(captions, pa.list_(self._type))]
        return pa.schema(fields[: min(self.n, 2)])

    @property
    def _names(self) -> tuple[str, str]:
        """The names of the column with the caption, and of that with all of them."""
        name = self.output_column or "caption"
        return name, f"{name}s"

    @property
    def settings(self) -> Mapping[str, object]:
        """Everything that decides the captions: the task's own fields."""
        return asdict(self)

    @property
    def sampling(self) -> Sampling:
        """How captions are drawn."""
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            n=self.n,
            json_schema=self.json_schema,
            ends_loops=not self.transcribes,
            stop=() if self.stop is None else (self.stop,),
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

    def prepare(self, row: Row) -> Prepared:
        """One request: the images or the video, then the prompt.

        Raises:
            RowError: The list of images is empty.
        """
        prompt, images = fill_columns(self.prompt, row), self._images(row)
        return Prepared((Request(prompt, self.sampling, images=images, system=self.system),))

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
            RowError: The JSON was longer than `max_tokens`, or the first caption is empty, a loop
                or a refusal.
            ValueError: The first caption is not JSON although there is a schema.
        """
        (answer,) = generations
        is_loop = answer.finish_reason == "repetition"
        if is_loop and self.json_schema is not None:
            self._check(answer.text, ended_as_loop=True)
        is_truncated = answer.finish_reason == "length"
        if self.json_schema is not None and is_truncated:
            message = f"the JSON was longer than {self.max_tokens} tokens; raise --max-tokens"
            raise RowError(Outcome.TOO_LONG, "parse", message)
        captions = [self._parse(answer.text)]
        self._check(captions[0], ended_as_loop=is_loop)
        captions += [self._parse_or_null(text) for text in answer.others]
        columns = dict(zip(self._names, (captions[0], captions), strict=True))
        kept = {name: columns[name] for name in self.result_schema.names}
        return Result(kept, Outcome.TRUNCATED if is_truncated else Outcome.OK)

    def _parse(self, text: str) -> Any:
        if self.json_schema is None:
            return text.strip()
        return conform(json.loads(text), self._type)

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
