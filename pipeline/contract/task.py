"""The one protocol between `jobs` and `pipeline`: what a job is.

A task says which columns it reads, turns one row into requests, and turns the generations back into
one row's result columns. Where rows come from, how images are decoded, what runs the model and
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
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from pipeline.contract.record import Outcome

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.contract.errors import RowError

Row = Mapping[str, Any]
"""One input row: the task's columns as Python values."""


class ColumnKind(StrEnum):
    """How a column is read, and which types planning accepts for it."""

    IMAGE = "image"
    """An image: binary, `struct<bytes, path>`, or a string with the path of a file."""
    TEXT = "text"
    """A text: strings."""
    IMAGES = "images"
    """An image, or a list of images."""
    VALUE = "value"
    """Anything else, as Python values of its Arrow type."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image as a column holds it; the render stage fetches and decodes it.

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
        top_p: Draw from the likeliest tokens that hold this much probability together.
        top_k: Draw from so many of the likeliest tokens; 0 from all.
        seed: Another one draws other answers.
        n: Answers to draw.
        json_schema: A JSON schema, as JSON, that the answer is held to token by token.
        score_tokens: Words of one token each, to be weighed as the answer's first instead of answering:
            the generation has their log-probabilities, and nothing is drawn.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    n: int = 1
    json_schema: str | None = None
    score_tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to the model.

    Attributes:
        prompt: The text of the user's turn; it may be empty where there are images.
        sampling: How the answer is drawn.
        images: Stand before the text, unless the checkpoint's template puts them elsewhere.
        system: Text before the user's turn.
        languages: Codes of the language the text (or the image's) is in and of the one it goes to,
            for a template that fills in all other words itself, as TranslateGemma's does.
        may_fail: Whether the row goes on without this answer: its generation then says why there is
            none. Otherwise the request's failure is the row's.
    """

    prompt: str
    sampling: Sampling
    images: tuple[ImageRef, ...] = ()
    system: str | None = None
    languages: tuple[str, str] | None = None
    may_fail: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A row's requests, and whatever the task wants back with the answers (it must pickle)."""

    requests: tuple[Request, ...]
    state: object = None


@dataclass(frozen=True, slots=True)
class Generation:
    """One request's answer.

    Attributes:
        text: The generated text, without control tokens; of several answers the first.
        prompt_tokens: Tokens of the prompt, soft tokens of images counted.
        output_tokens: Generated tokens, stop tokens counted.
        finish_reason: `stop`, or `length` where `max_tokens` or the context ended the first answer.
        others: The texts of the further answers, where several were asked for.
        log_probabilities: Of the words in `Sampling.score_tokens`, in their order, natural logarithm.
        failure: Why there is no answer, where the request may fail.
    """

    text: str
    prompt_tokens: int
    output_tokens: int
    finish_reason: str
    others: tuple[str, ...] = ()
    log_probabilities: tuple[float, ...] = ()
    failure: RowError | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One row's results.

    Attributes:
        columns: The result columns by name; what is not named is null.
        outcome: What became of the row; of several results the worst (`record.worst`).
        error: What happened and in which stage, where the outcome has no results.
        partial: Whether the columns are kept although the outcome has no results: of several
            results some are good, and the columns of the others are null.
    """

    columns: Mapping[str, object] = field(default_factory=dict)
    outcome: Outcome = Outcome.OK
    error: str | None = None
    partial: bool = False


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


class TextMeter(Protocol):
    """Measures texts as the model will."""

    @property
    def max_model_len(self) -> int:
        """Longest prompt with its answer, in tokens."""
        ...

    def count(self, text: str) -> int:
        """Tokens of a text by itself."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A task that must know how long its texts are, to cut them, say."""

    def measured(self, meter: TextMeter) -> Self:
        """The same task, ready to `prepare` with this meter; called once in each renderer."""
        ...
