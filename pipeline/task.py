"""The one protocol between `jobs` and `pipeline`: what a job is.

A task says which columns it reads, turns one row into requests, and turns the generations back into
one row's result columns. Where rows come from, how pictures are decoded, what runs the model and
where results are kept is the pipeline's. A task is sent to other processes, so it must pickle.

    class ColourTask:
        name = "colour"
        columns = {"image": ColumnKind.IMAGE}
        result_schema = pa.schema([("colour", pa.string())])
        settings = {"prompt": "Which colour is it? Answer with one word."}

        def prepare(self, row):
            image = ImageRef(row["image"])
            request = Request(self.settings["prompt"], Sampling(max_tokens=4), images=(image,))
            return Prepared((request,))

        def result(self, state, generations):
            return Result({"colour": generations[0].text.strip().lower()})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.record import Outcome

if TYPE_CHECKING:
    import pyarrow as pa

Row = Mapping[str, Any]
"""One input row: the task's columns as Python values."""


class ColumnKind(StrEnum):
    """How a column is read, and which types planning accepts for it."""

    IMAGE = "image"
    """A picture: binary, `struct<bytes, path>`, or a string with the path of a file."""
    VALUE = "value"
    """Anything else, as Python values of its Arrow type."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A picture as a column holds it; the render stage fetches and decodes it.

    Attributes:
        value: Bytes, a path, a mapping with `bytes` and `path`, or None where the row has none.
    """

    value: object


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the answer is drawn.

    Attributes:
        max_tokens: Longest answer, in tokens.
        temperature: 0 takes the likeliest token each time; above, the draw is seeded by the row's
            key, so the same row gives the same answer when it is computed again.
    """

    max_tokens: int
    temperature: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to the model, in the words of the user's turn; images stand before the text."""

    prompt: str
    sampling: Sampling
    images: tuple[ImageRef, ...] = ()
    system: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A row's requests, and whatever the task wants back with the answers (it must pickle)."""

    requests: tuple[Request, ...]
    state: object = None


@dataclass(frozen=True, slots=True)
class Generation:
    """One request's answer.

    Attributes:
        text: The generated text, without control tokens.
        prompt_tokens: Tokens of the prompt, soft tokens of images counted.
        output_tokens: Generated tokens, the stop token counted.
        finish_reason: `stop`, or `length` where `max_tokens` or the context ended it.
    """

    text: str
    prompt_tokens: int
    output_tokens: int
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Result:
    """One row's result columns, by name, and its outcome; `error` where the outcome has none."""

    columns: Mapping[str, object] = field(default_factory=dict)
    outcome: Outcome = Outcome.OK
    error: str | None = None


class Task(Protocol):
    """A job, as the pipeline sees it."""

    @property
    def name(self) -> str:
        """Short name, for the run record and the progress display."""
        ...

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """The input columns `prepare` needs, and how each is read."""
        ...

    @property
    def result_schema(self) -> pa.Schema:
        """The columns `result` fills; all of them nullable."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """What decides the results (prompt, limits), as JSON values, for the run record."""
        ...

    def prepare(self, row: Row) -> Prepared:
        """The requests of one row. May raise `RowError`; another error becomes `decode_error`."""
        ...

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        """One row's columns from its generations, in the order of its requests."""
        ...
