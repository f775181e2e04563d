"""What a job is to the pipeline: the one protocol between `jobs` and `pipeline`.

A task says which columns it reads, turns a row into requests to the model, and turns the
generations into the row's result columns. Reading rows, decoding images, running the model and
writing results are the pipeline's. A task is sent to other processes, so it must pickle.

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
    """How a column is read, and which Arrow types it may have."""

    IMAGE = "image"
    """An image: binary, `struct<bytes, path>`, or a string with a path, a URI or a link."""
    TEXT = "text"
    """A string."""
    IMAGES = "images"
    """An image, or a list of images."""
    VALUE = "value"
    """Any type; the task gets the Python value."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image that the render stage fetches and decodes.

    Attributes:
        value: What the column holds: bytes, a path, a URI, a link, a mapping with `bytes` and
            `path`, or None.
    """

    value: object


@dataclass(frozen=True)
class Sampling:
    """How an answer is sampled.

    Attributes:
        max_tokens: Most tokens of an answer.
        temperature: 0 takes the most probable token each time. Above 0 sampling is seeded by the
            row's key, so a row that is computed again gets the same answer.
        top_p: Nucleus sampling probability; 1 keeps all tokens.
        top_k: Sample among this many most probable tokens; 0 keeps all.
        seed: Another seed gives other answers.
        n: Answers to a request.
        ends_loops: Whether an answer ends early that says the same over and over; its
            `finish_reason` is `repetition` then.
        json_schema: A JSON schema, as JSON, that the answer is constrained to token by token.
        stop: Texts that end an answer, which goes up to the first of them; as where raw text is
            continued, which has no other end.
        score_tokens: Candidate first tokens of the answer, each one token long; instead of
            generating text the engine returns their log-probabilities.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    n: int = 1
    ends_loops: bool = False
    json_schema: str | None = None
    score_tokens: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to the model.

    Attributes:
        prompt: Text of the user's turn, or text to continue where `EngineConfig.prompt_format` is
            `raw`; may be empty where there are images.
        sampling: How the answer is sampled.
        images: Placed before the text, unless the checkpoint's chat template says otherwise.
        system: System message, placed before the user's turn; before raw text with an empty line.
        languages: Codes of the source and the target language, for a chat template that writes the
            rest of the prompt itself, as TranslateGemma's does.
        may_fail: Whether a failure of this request leaves its row intact; the generation then has
            the `failure`. Otherwise the row fails with it.
        adapter: Name of the LoRA adapter that answers; by default the only one, or none where rows
            choose (`EngineConfig.lora_column`).
    """

    prompt: str
    sampling: Sampling
    images: tuple[ImageRef, ...] = ()
    system: str | None = None
    languages: tuple[str, str] | None = None
    may_fail: bool = False
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A row's requests.

    Attributes:
        requests: Each is answered by one `Generation`.
        state: Anything that `Task.result` needs again; it must pickle.
    """

    requests: tuple[Request, ...]
    state: object = None


@dataclass(frozen=True)
class Generation:
    """One request's answer.

    Attributes:
        text: The generated text without control tokens; of several answers the first.
        prompt_tokens: Tokens of the prompt, soft tokens of images included.
        output_tokens: Generated tokens of all answers, stop tokens included.
        finish_reason: `stop`; or what ended the first answer: `length`, that is `max_tokens` or the
            context, or `repetition`.
        others: Texts of the further answers, where `Sampling.n` is above 1.
        log_probabilities: Natural logarithms, one for each of `Sampling.score_tokens`.
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
        columns: Values of result columns by name; a column not named is null.
        outcome: What became of the row; of several results the worst (`record.worst`).
        error: The stage and what went wrong, where the outcome has no results.
        partial: Whether the columns are kept although the outcome has no results: some of several
            results are good, and the columns of the others are null.
    """

    columns: Mapping[str, object] = field(default_factory=dict)
    outcome: Outcome = Outcome.OK
    error: str | None = None
    partial: bool = False


class Task(Protocol):
    """A job to the pipeline."""

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
        """The columns that `result` fills, all nullable."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """What determines the results (prompt, limits), as JSON values, for the run record."""
        ...

    def prepare(self, row: Row) -> Prepared:
        """Turn a row into requests.

        Args:
            row: Values of `columns`; an image column's value goes into an `ImageRef`.

        Raises:
            RowError: The row cannot be computed; any other exception makes it a `decode_error`.
        """
        ...

    def result(self, state: object, generations: Sequence[Generation]) -> Result:
        """Turn a row's generations into its results.

        Args:
            state: `Prepared.state` of this row.
            generations: One for each request, in the same order.

        Raises:
            RowError: The row has no results; any other exception makes it an `engine_error`.
        """
        ...


class TextMeter(Protocol):
    """Counts tokens as the model will."""

    @property
    def max_model_len(self) -> int:
        """Most tokens of a prompt and its answer together."""
        ...

    def count(self, text: str) -> int:
        """Tokens of a text, without those of the chat template."""
        ...


@runtime_checkable
class Renamable(Protocol):
    """A task with an option that names its result, for where the input has a column of its name."""

    @property
    def renaming_option(self) -> str:
        """The option's name, as in Python."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A task that needs to know how many tokens its texts have, for example to split them."""

    def measured(self, meter: TextMeter) -> Self:
        """The same task with this meter; called once in each render worker, before `prepare`."""
        ...
