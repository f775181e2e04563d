"""The caption job: what is asked about a row's images, and the columns that come of it.

(The module is not called `caption`, because `from jobs import caption` would then give the module.)
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from jobs.captioning.json_schema import arrow_type, fitted
from jobs.captioning.prompt import columns_in, filled
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
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.contract.task import Row


@dataclass(frozen=True, kw_only=True)
class CaptionTask:
    """A caption for each row's image or images.

    Attributes:
        prompt: What is asked; columns in braces (`Describe {title}`) are filled in.
        image_column: Where the image is, or the list of them.
        max_tokens: Longest caption, in tokens. A longer text is cut and its outcome `truncated`; of
            a longer JSON nothing is left, and its outcome is `too_long`.
        system: Text before the user's turn.
        json_schema: A JSON schema, as JSON, that the caption keeps to; None for text.
        n: Captions to draw; with more than one, `captions` holds all of them.
        temperature: See `Sampling`.
        top_p: See `Sampling`.
        top_k: See `Sampling`.
        seed: See `Sampling`.
    """

    prompt: str
    image_column: str = "image"
    max_tokens: int = 128
    system: str | None = None
    json_schema: str | None = None
    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    name = "caption"

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """The images', and those in the prompt."""
        named = dict.fromkeys(columns_in(self.prompt), ColumnKind.VALUE)
        return {self.image_column: ColumnKind.IMAGES, **named}

    @property
    def result_schema(self) -> pa.Schema:
        """`caption`, of the schema's type, and `captions` where there are several."""
        caption = [pa.field("caption", self._type)]
        return pa.schema([*caption, pa.field("captions", pa.list_(self._type))][: min(self.n, 2)])

    @property
    def settings(self) -> Mapping[str, object]:
        """What decides the captions: the arguments this task was made with."""
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
        )

    @property
    def _type(self) -> pa.DataType:
        return pa.string() if self.json_schema is None else _type_of(self.json_schema)

    def prepare(self, row: Row) -> Prepared:
        """One request: the images, then the prompt."""
        values = row[self.image_column]
        if not isinstance(values, list):
            values = [values]
        if not values:
            raise RowError(Outcome.MISSING_INPUT, "render", "the list of images is empty")
        images = tuple(ImageRef(value) for value in values)
        prompt = filled(self.prompt, row)
        return Prepared((Request(prompt, self.sampling, images=images, system=self.system),))

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        """The answers, parsed where they keep to a schema, else without white space around them."""
        (answer,) = generations
        is_cut = answer.finish_reason == "length"
        if self.json_schema is not None and is_cut:
            message = f"the JSON was longer than {self.max_tokens} tokens; raise --max-tokens"
            raise RowError(Outcome.TOO_LONG, "parse", message)
        captions = [self._parsed(answer.text)]
        captions += [self._parsed(text, is_kept=False) for text in answer.others]
        columns = {"caption": captions[0], "captions": captions}
        kept = {name: columns[name] for name in self.result_schema.names}
        return Result(kept, Outcome.TRUNCATED if is_cut else Outcome.OK)

    def _parsed(self, text: str, *, is_kept: bool = True) -> Any:
        """A caption; a further one that is no whole JSON is null."""
        if self.json_schema is None:
            return text.strip()
        try:
            return fitted(json.loads(text), self._type)
        except ValueError:
            if is_kept:
                raise
            return None


@functools.lru_cache
def _type_of(schema: str) -> pa.DataType:
    return arrow_type(json.loads(schema))
